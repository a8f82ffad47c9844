"""A specification of TAO becomes settings; every field of it is accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tao_specs import FULL, TINY
from torch.nn.modules.batchnorm import _BatchNorm

from tilth.config import read_toml
from tilth.errors import SettingsError
from tilth.models.darknet import Darknet
from tilth.models.darknet_cfg import parse_cfg
from tilth.recipes.detect_settings import settings
from tilth.recipes.detection_families import family_of
from tilth.recipes.tao_fields import EXPERIMENT, _Many, read_spec
from tilth.recipes.tao_model import class_names
from tilth.recipes.tao_spec import import_spec, translate_spec
from tilth.recipes.tao_training import DECAY_STEPS
from tilth.recipes.tao_translation import Translation
from tilth.train.freezing import frozen_parameters
from tilth.train.schedule import learning_rate_factor


def translated(text: str, **options: Any) -> Translation:
    return translate_spec(text, where="spec.txt", **options)


def outcomes(made: Translation) -> dict[str, str]:
    return {note.field: note.outcome for note in made.notes}


def leaf_names(kinds: Mapping[str, Any], path: str = "") -> set[str]:
    names: set[str] = set()
    for name, kind in kinds.items():
        if isinstance(kind, Mapping):
            names |= leaf_names(kind, f"{path}{name}.")
        else:
            names.add(f"{path}{name}")
    return names


# Of one choice, only one member can be written; the tiny specification has the others.
OTHER_CHOICES = {
    "training_config.resume_model_path",
    "training_config.pruned_model_path",
    *(
        f"training_config.learning_rate.soft_start_annealing_schedule.{name}"
        for name in ("min_learning_rate", "max_learning_rate", "soft_start", "annealing")
    ),
    *(f"training_config.optimizer.sgd.{name}" for name in ("momentum", "nesterov")),
    *(
        f"training_config.optimizer.rmsprop.{name}"
        for name in ("rho", "momentum", "epsilon", "centered")
    ),
}


def test_a_spec_with_every_field_is_read() -> None:
    spec = read_spec(FULL, where="spec.txt")
    assert set(spec.values) == leaf_names(EXPERIMENT) - OTHER_CHOICES
    assert (
        spec.get(
            "training_config.learning_rate.soft_start_cosine_annealing_schedule.min_learning_rate"
        )
        == 1e-7
    )
    assert spec.many("dataset_config.target_class_mapping")[0].value == {
        "key": "van",
        "value": "car",
    }
    assert isinstance(EXPERIMENT["yolov4_config"]["freeze_blocks"], _Many)


def test_every_field_is_kept_changed_or_named_as_dropped() -> None:
    made = translated(FULL, num_pictures=100)
    assert set(outcomes(made)) == set(made.spec.values)
    assert [note.line for note in made.notes] == sorted(note.line for note in made.notes)
    assert {note.outcome for note in made.notes} == {"kept", "changed", "dropped"}
    assert not any("SECRET" in note.text for note in made.notes), "keys are not repeated"


def test_settings_are_those_of_the_specification() -> None:
    made = settings(translated(FULL, num_pictures=100).settings)
    assert (made.model.variant, made.model.width, made.model.size) == ("yolov4", 1.0, 1248)
    assert made.model.anchors[0] == (15.6, 13.88)
    assert made.model.anchors[-1] == (297.59, 176.38)
    assert (made.batch_size, made.epochs, made.include_difficult) == (8, 80, True)
    loop = made.train
    assert (loop.optimiser, loop.momentum, loop.learning_rate) == ("adam", 0.9, 1e-4)
    assert (loop.schedule, loop.warmup_fraction, loop.warmup_steps) == ("cosine", 0.3, 0)
    assert loop.final_learning_rate_fraction == pytest.approx(1e-3)
    assert (loop.l1, loop.weight_decay, loop.seed, loop.workers) == (3e-5, 0.0, 42, 4)
    assert (loop.checkpoint_every, loop.patience, loop.tensorboard) == (130, 5, True)
    augment = made.augment
    assert (augment.hue, augment.saturation_factor, augment.exposure_factor) == (0.1, 1.5, 1.4)
    assert (augment.flip_probability, augment.vertical_flip_probability) == (0.5, 0.1)
    assert (augment.jitter, augment.mosaic, augment.mosaic_cut) == (0.3, 0.4, (0.2, 0.8))
    assert (augment.multi_scale, augment.multi_scale_every) == (1.4, 10)
    assert (augment.scale, augment.translate, augment.close_mosaic) == (0, 0, 0), "TAO has none"
    loss = made.loss
    assert (loss.anchor_threshold, loss.ignore_threshold) == (0.25, 0.5)
    assert loss.gains == (1.6, 1.0, 0.5)
    assert (loss.background_weight, loss.label_smoothing) == (10.0, 0.1)
    assert (loss.focal_alpha, loss.focal_gamma) == (0.25, 2.0)
    assert loss.focal_terms == "objectness"  # TAO's alone
    assert loss.class_weights == (1.0, 2.5)


def test_the_tiny_network_keeps_its_own_scales() -> None:
    made = translated(TINY)
    assert not made.network
    model = settings(made.settings).model
    assert (model.variant, model.size) == ("yolov4-tiny", 320)
    # The finer head first, and its smallest anchor first.
    assert model.anchors[:3] == ((12, 20), (30, 24), (25, 44))
    assert model.anchors[3:] == ((60, 50), (120, 90), (200, 160))


def test_an_exponential_way_down_becomes_equal_drops() -> None:
    loop = settings(translated(TINY).settings).train
    factors = [
        learning_rate_factor(
            step,
            steps=1000,
            warmup_steps=100,
            final_fraction=loop.final_learning_rate_fraction,
            schedule=loop.schedule,
            drops_at=loop.drops_at,
            drop_factor=loop.drop_factor,
        )
        for step in range(1000)
    ]
    assert factors[599] == 1.0
    assert factors[-1] == pytest.approx(1e-2)
    for step in range(600, 1000, 50):  # within one drop of TAO's curve
        exact = 1e-2 ** ((step - 600) / 400)
        assert exact * 1e-2 ** (1 / DECAY_STEPS) - 1e-9 <= factors[step] <= exact + 1e-9


def test_l2_of_a_loss_is_twice_its_weight_of_decay() -> None:
    loop = settings(translated(TINY).settings).train
    assert (loop.optimiser, loop.momentum, loop.nesterov) == ("sgd", 0.9, True)
    assert (loop.weight_decay, loop.l1) == (2e-4, 0.0)


def test_other_grid_scales_need_a_network_file() -> None:
    made = translated(TINY.replace("mid_grid_xy_extend: 0.05", "mid_grid_xy_extend: 0.1"))
    assert made.settings["model"]["variant"] == "darknet"
    network = Darknet(parse_cfg(made.network, where="network.cfg"))
    scales = dict(zip(network.strides, network.grid_scales, strict=True))
    assert scales == {32: 1.05, 16: 1.1}
    anchors = dict(zip(network.strides, network.anchors, strict=True))
    assert [tuple(pair) for pair in anchors[16]] == [(12, 20), (30, 24), (25, 44)]
    assert [tuple(pair) for pair in anchors[32]] == [(60, 50), (120, 90), (200, 160)]
    assert network.num_classes == 1


def test_three_heads_of_the_tiny_network_are_a_network_file() -> None:
    text = FULL.replace('arch: "cspdarknet"', 'arch: "cspdarknet_tiny_3l"').replace(
        "nlayers: 53", ""
    )
    same = text.replace("mid_grid_xy_extend: 0.1", "mid_grid_xy_extend: 0.05")
    same = same.replace("small_grid_xy_extend: 0.2", "small_grid_xy_extend: 0.05")
    made = settings(translated(same).settings)
    assert (made.model.variant, made.model.cfg) == ("darknet", "yolov4-tiny-3l")
    assert made.train.freeze.names[:2] == ("layers.0", "layers.1")
    other = translated(text)
    network = Darknet(parse_cfg(other.network, where="network.cfg"))
    scales = dict(zip(network.strides, network.grid_scales, strict=True))
    assert scales == {32: 1.05, 16: 1.1, 8: 1.2}


PUBLISHED = {
    "cspdarknet_53": {"big": 0.05, "mid": 0.1, "small": 0.2},
    "cspdarknet_tiny": {"big": 0.05, "mid": 0.05},
    "cspdarknet_tiny_3l": {"big": 0.05, "mid": 0.05, "small": 0.05},
}


def frozen_kernels(arch: str, extends: Mapping[str, float], folder: Path) -> int:
    """How many kernels are frozen of a network whose stem and some blocks TAO freezes."""
    scales = " ".join(f"{head}_grid_xy_extend: {extend}" for head, extend in extends.items())
    path = folder / "spec.txt"
    path.write_text(
        f'yolov4_config {{ arch: "{arch}" freeze_blocks: [0, 1, 2, 5] freeze_bn: true {scales} }}'
    )
    import_spec(path, output=folder / "detect.toml", overwrite=True)
    made = settings(read_toml(folder / "detect.toml"), ["model.size=64"])
    model = family_of(made.model).build(made.model, 1, root=folder)
    frozen = set(frozen_parameters(model, made.train.freeze))
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for kind in ("weight", "bias")
    }
    assert norms < frozen, "all normalisations"
    kernels = frozen - norms
    assert all(name.endswith("weight") for name in kernels)
    assert not any("head" in name or "neck" in name for name in kernels)
    return len(kernels)


@pytest.mark.parametrize("arch", list(PUBLISHED))
def test_frozen_blocks_are_the_same_in_a_network_file(arch: str, tmp_path: Path) -> None:
    """By the names of our modules, or by layers of the file: the same convolutions."""
    count = frozen_kernels(arch, PUBLISHED[arch], tmp_path)
    assert count == frozen_kernels(arch, {**PUBLISHED[arch], "big": 0.15}, tmp_path)
    # The stem; of yolov4 stages of 1, 2 and 4 blocks, two convolutions each and five around them.
    assert count == (1 + 7 + 9 + 13 if arch == "cspdarknet_53" else 1 + 1 + 4 + 1)


def test_imports_are_commands_that_map_the_classes() -> None:
    made = translated(FULL)
    train, val, split, evaluate = made.commands
    assert train == (
        "tilth import /data/kitti/label_2 --format kitti --origin train1 "
        "--images /data/kitti/image_2 --option classes=car,van,pedestrian --on-unknown skip "
        "--map van=car"
    )
    assert val.startswith("tilth import '/data/val/label 2' --format kitti --origin val1 ")
    assert split == "tilth split"
    assert evaluate == "tilth detect evaluate --mode area --score 0.001 --iou 0.5"
    assert class_names(made.spec) == ["car", "pedestrian"]


def test_checkpoints_by_epochs_need_the_number_of_pictures(tmp_path: Path) -> None:
    assert outcomes(translated(TINY))["training_config.checkpoint_interval"] == "dropped"
    assert translated(TINY, num_pictures=10).settings["train"]["checkpoint_every"] == 3
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("")
    here = translated(TINY.replace('"labels"', f'"{tmp_path}"'))
    assert here.settings["train"]["checkpoint_every"] == 2, "the label files were counted"


def test_a_field_that_comes_twice_counts_the_last_time_and_is_said() -> None:
    text = TINY.replace("box_matching_iou: 0.25", "box_matching_iou: 0.25 box_matching_iou: 0.3")
    made = translated(text)
    assert made.settings["loss"]["anchor_threshold"] == 0.3
    assert any("the last one counts" in note.text for note in made.notes)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("num_epochs: 3", "num_epoch: 3", 16, "unknown field 'training_config.num_epoch'"),
        ("regularizer", "regulariser", 23, "unknown field 'training_config.regulariser'"),
        ('arch: "cspdarknet_tiny"', 'arch: "resnet"', 7, "no backbone 'resnet'"),
        ('arch: "cspdarknet_tiny"', "arch: 5", 7, "another type"),
        ("num_epochs: 3", "num_epochs: -3", 16, "another type"),
        ("num_epochs: 3", "num_epochs: 3.5", 16, "another type"),
        ("nesterov: true", "nesterov: maybe", 24, "another type"),
        ("type: L2", "type: L3", 23, "another type"),
        ("max_learning_rate: 1e-3", "max_learning_rate: 1e-6", 19, "learning rates"),
        ("(12, 20)", "(12, )", 4, "anchors in 'yolov4_config.mid_anchor_shape'"),
        ("(12, 20)", "(0, 20)", 4, "anchors in 'yolov4_config.mid_anchor_shape'"),
        ("data_sources {", "data_sources { tfrecords_path: 'x'", 32, "TFRecords"),
        ("optimizer {", "optimizer: 3 #", 24, "is a message"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(
    old: str, new: str, line: int, message: str
) -> None:
    assert old in TINY
    text = TINY.replace(old, new, 1)
    if new.endswith("#"):
        text = text.replace("sgd { momentum: 0.9 nesterov: true } }", "")
    with pytest.raises(SettingsError, match=message) as caught:
        translated(text)
    assert caught.value.where == f"spec.txt:{line}"


def test_unknown_fields_name_line_and_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        translated("random_sed: 1")
    assert (caught.value.where, caught.value.fix) == ("spec.txt:1", "did you mean 'random_seed'?")


def test_a_value_of_another_type_is_refused_with_its_line() -> None:
    with pytest.raises(SettingsError, match="another type") as caught:
        translated("yolov4_config {\n  arch: cspdarknet\n}")
    assert (caught.value.where, caught.value.expected) == ("spec.txt:2", "text in quotes")


def test_backbones_that_are_not_here_name_those_that_are() -> None:
    with pytest.raises(SettingsError) as caught:
        translated('yolov4_config { arch: "cspdarknet" nlayers: 19 }')
    assert caught.value.expected == "cspdarknet_53, cspdarknet_tiny, cspdarknet_tiny_3l"


def test_the_file_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    spec, output = tmp_path / "spec.txt", tmp_path / "out" / "detect.toml"
    spec.write_text(FULL)
    done = import_spec(spec, output=output, num_pictures=50)
    assert done["network"] is None
    assert settings(read_toml(output)) == settings(done["settings"])
    head = output.read_text().splitlines()
    assert head[0] == "# From spec.txt, a specification of NVIDIA TAO. Without a counterpart here:"
    assert "#   yolov4_config.arch_conv_blocks: " in output.read_text()
    assert done["commands"][-2:] == [
        f"tilth detect train --settings {output}",
        "tilth detect evaluate --mode area --score 0.001 --iou 0.5",
    ]
    with pytest.raises(SettingsError, match="there already"):
        import_spec(spec, output=output)
    import_spec(spec, output=output, overwrite=True)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        import_spec(tmp_path / "none.txt", output=tmp_path / "detect.toml")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        import_spec(tmp_path / "binary.txt", output=tmp_path / "detect.toml")
