"""The replay keeps the newest, holds some out for good, and pads what differs in size."""

import numpy as np
import pytest
import torch

from tilth.errors import DataError
from tilth.losses.metric_replay import Replay, padded


def _filled(count, **options):
    replay = Replay(**{"capacity": 50, **options})
    for value in range(count):
        replay.add(torch.full((2,), float(value)), torch.tensor(value), float(value))
    return replay


def test_the_oldest_go_first():
    assert _filled(70).all().values.tolist() == list(range(20, 70))


def test_held_out_examples_are_never_drawn():
    replay = _filled(70)
    held = set(replay.all(held_out=True).values.tolist())
    assert held == {value for value in range(20, 70) if value % 5 == 4}
    drawn = set(replay.draw(2000, np.random.default_rng(0)).values.tolist())
    assert drawn == set(range(20, 70)) - held


def test_the_newest_tenth_comes_more_often():
    drawn = _filled(50, hold_out_every=0, recent_share=0.5).draw(4000, np.random.default_rng(1))
    assert (drawn.values >= 45).float().mean().item() == pytest.approx(0.5 + 0.5 * 0.1, abs=0.03)


def test_predictions_stay_with_their_targets_and_values():
    drawn = _filled(30).draw(100, np.random.default_rng(2))
    assert torch.equal(drawn.predictions[:, 0], drawn.values)
    assert torch.equal(drawn.targets.float(), drawn.values)


def test_state_makes_an_equal_replay():
    replay = _filled(33)
    other = Replay(capacity=50)
    other.load_state_dict(replay.state_dict())
    for held_out in (True, False, None):
        ours, theirs = replay.all(held_out=held_out), other.all(held_out=held_out)
        assert torch.equal(ours.predictions, theirs.predictions)
    drawn = [each.draw(20, np.random.default_rng(3)).values for each in (replay, other)]
    assert torch.equal(*drawn)
    other.add(torch.zeros(2), torch.tensor(0), 0.0)
    assert len(replay) == 33  # what was taken up is a list of its own


def test_a_smaller_replay_takes_up_the_newest():
    replay = Replay(capacity=7)
    replay.add_all(_filled(33))
    assert replay.all().values.tolist() == list(range(26, 33))
    replay.add(torch.zeros(2), torch.tensor(33), 33.0)
    drawn = replay.draw(200, np.random.default_rng(4)).values.tolist()
    assert set(drawn) == {27, 28, 30, 31, 32, 33}  # 29 is held out


def test_nothing_to_draw_is_said():
    with pytest.raises(DataError, match="nothing has been scored"):
        Replay(capacity=3).draw(4, np.random.default_rng(0))


def test_padding_says_where_a_sequence_ends():
    whole = padded([torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5], [6]])])
    assert whole.tolist() == [[[1, 2], [3, 4]], [[5, -1], [6, -1]]]
    assert padded([torch.ones(1), torch.ones(2)]).tolist() == [[1.0, 0.0], [1.0, 1.0]]
    masks = padded([torch.ones(1, dtype=torch.bool), torch.ones(2, dtype=torch.bool)])
    assert masks.tolist() == [[True, False], [True, True]]
    small = padded([torch.ones(1, dtype=torch.uint8), torch.ones(2, dtype=torch.uint8)])
    assert small.tolist() == [[1, -1], [1, 1]]
