"""A detector is trained with weights of boxes by one line, resumes exactly, refuses the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drawn_sets import draw_pictures

from tilth.errors import SettingsError, TrainingError
from tilth.losses.reweighting_settings import ReweightingSettings
from tilth.losses.robust_settings import RobustSettings
from tilth.recipes.detect_settings import DetectSettings, ModelSettings, settings
from tilth.recipes.detector_training import train_detector
from tilth.recipes.training_plan import DetectorProbe
from tilth.train.adversarial_settings import AdversarialSettings
from tilth.train.augment_settings import AugmentSettings
from tilth.train.loop_settings import LoopSettings
from tilth.train.run import Run
from tilth.train.trackers import read_records

SETTINGS = DetectSettings(
    model=ModelSettings(width=0.25, size=64),
    train=LoopSettings(
        steps=6,
        optimiser="adamw",
        learning_rate=0.003,
        checkpoint_every=3,
        log_every=1,
        accumulate=2,
        device="cpu",
    ),
    augment=AugmentSettings(mosaic=0.5, mixup=0.3),
    robust=RobustSettings(kind="cicw"),
    batch_size=4,
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("drawn"), 8)


def train(drawn, run_dir, options=SETTINGS):
    dataset, paths = drawn
    return train_detector(
        dataset,
        paths,
        settings=options,
        root=run_dir.parent,
        run_dir=run_dir,
        digest="abc",
        seed=3,
        progress=False,
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["ciw", "cicw"])
def test_runs_resume_bit_for_bit(drawn, tmp_path, kind):
    options = replace(SETTINGS, robust=RobustSettings(kind=kind))
    whole = train(drawn, tmp_path / "a", options)
    save = Run.save

    def save_and_die(run):
        save(run)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save", save_and_die)
        with pytest.raises(Killed):
            train(drawn, tmp_path / "b", options)
    resumed = train(drawn, tmp_path / "b", options)
    assert resumed.resumed_from == 3
    assert resumed.loss == whole.loss
    assert resumed.last_weights.read_bytes() == whole.last_weights.read_bytes()
    shares = [line["loss"]["effective_share"] for line in read_records(whole.metrics)]
    assert shares[0] == pytest.approx(1.0)  # the burn-in
    assert shares[-1] < 1


def test_settings_are_part_of_what_the_run_is(drawn, tmp_path):
    short = replace(SETTINGS, train=replace(SETTINGS.train, steps=1))
    train(drawn, tmp_path / "run", short)
    mild = RobustSettings(
        kind="cicw", reweighting=ReweightingSettings(lam=1.0, class_divergence="kl")
    )
    with pytest.raises(TrainingError, match="another run"):
        train(drawn, tmp_path / "run", replace(short, robust=mild))


def test_works_with_adversarial_training_and_other_gradients(drawn, tmp_path):
    attacked = AdversarialSettings(learning_rate=0.5, share=1.0)
    options = replace(
        SETTINGS,
        adversarial=attacked,
        loss=replace(SETTINGS.loss, gradient="darknet", class_weights="balanced"),
        robust=RobustSettings(kind="ciw", weigh_boxes=True),
        train=replace(SETTINGS.train, steps=2, warmup_steps=0),
    )
    assert train(drawn, tmp_path / "run", options).loss["total"] > 0


def test_memory_is_measured_with_the_loss_of_the_run(tmp_path):
    probe = DetectorProbe(settings=SETTINGS, num_classes=2, root=tmp_path, size=64, device="cpu")
    probe(2)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("robust.kind=gce",), "kind one of none, ciw, cicw"),
        (("robust.kind=cicw_m",), "augment.mixup"),
        (("robust.kind=ciw", "robust.keep_weights=true"), "keep_weights = false"),
        (("robust.kind=ciw", "model.variant=rt-detr-v2"), "rt-detr-v2"),
        (("robust.kind=cicw", "robust.reweighting.class_divergence=l2"), "'tv' or 'kl'"),
    ],
)
def test_what_detection_does_not_have_is_refused(overrides, words):
    with pytest.raises(SettingsError) as caught:
        settings(overrides=list(overrides))
    assert words in str(caught.value)


def test_settings_are_a_line():
    chosen = settings(overrides=["robust.kind=ciw", "robust.weigh_boxes=true"]).robust
    assert chosen.weigh_boxes
    assert chosen.applied_reweighting.lam == 0.1
