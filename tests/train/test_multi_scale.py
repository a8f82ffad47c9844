"""The network's size changes by arithmetic: the same for every process, within its range."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tilth.train.augment_settings import NO_AUGMENT, AugmentSettings
from tilth.train.multi_scale import largest_size, network_size


@given(
    batch=st.integers(0, 100_000),
    size=st.integers(1, 20).map(lambda cells: 32 * cells),
    scale=st.floats(1.05, 2.0),
)
def test_sizes_are_multiples_within_the_range(batch, size, scale):
    settings = AugmentSettings(multi_scale=scale)
    found = network_size(batch, size=size, seed=0, settings=settings)
    assert found % 32 == 0
    assert max(32, size / scale - 16) <= found <= largest_size(size, settings)


def test_size_lasts_for_its_steps():
    settings = AugmentSettings(multi_scale=1.4, multi_scale_every=5)
    sizes = [network_size(batch, size=416, seed=1, settings=settings) for batch in range(200)]
    assert all(len(set(sizes[start : start + 5])) == 1 for start in range(0, 200, 5))
    assert len(set(sizes)) > 5


def test_processes_and_accumulated_batches_share_the_size_of_their_step():
    settings = AugmentSettings(multi_scale=1.4, multi_scale_every=2)

    def size_of(batch, batches_per_step):
        return network_size(
            batch, size=416, seed=1, settings=settings, batches_per_step=batches_per_step
        )

    for step in range(20):
        alone = size_of(step, 1)
        assert {size_of(batch, 3) for batch in range(3 * step, 3 * step + 3)} == {alone}


def test_switched_off_never_changes():
    assert network_size(70, size=100, seed=0, settings=NO_AUGMENT) == 100
    assert largest_size(100, NO_AUGMENT) == 100
