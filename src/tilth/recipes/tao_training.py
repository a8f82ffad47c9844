"""Loss, loop and augmentation of a TAO specification."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilth.errors import SettingsError
from tilth.recipes.tao_model import class_names
from tilth.recipes.tao_translation import Translation

__all__ = ["translate_augmentation", "translate_loss", "translate_training"]

DECAY_STEPS = 10  # drops that stand for one exponential way down
MULTI_SCALE = 1.4  # TAO does not say how far it goes; this is Darknet's range
MAX_JITTER = 0.49

_LOADING = "pictures are decoded once into a shared cache, and read ahead by threads"
_FILES = "TAO's own files are encrypted or of TensorFlow"


@dataclass(frozen=True, kw_only=True)
class _Optimiser:
    """Ours by TAO's name: what it keeps, and what is fixed here at which value."""

    momentum: str
    fixed: dict[str, float | bool]


_OPTIMISERS = {
    "adam": _Optimiser(momentum="beta1", fixed={"beta2": 0.999, "epsilon": 1e-8, "amsgrad": False}),
    "sgd": _Optimiser(momentum="momentum", fixed={}),
    "rmsprop": _Optimiser(
        momentum="momentum", fixed={"rho": 0.9, "epsilon": 1e-8, "centered": False}
    ),
}


def translate_loss(made: Translation) -> None:
    """Fill ``loss``: TAO sums over slots, here all terms are divided by the same number."""
    spec, section = made.spec, "yolov4_config"
    if section not in spec.messages:
        return
    made.set("loss.objectness_target", "one")  # as TAO's
    made.keep(f"{section}.box_matching_iou", "loss.anchor_threshold")
    made.keep(f"{section}.matching_neutral_box_iou", "loss.ignore_threshold")
    made.keep(f"{section}.loss_class_weights", "loss.class_gain")
    made.keep(f"{section}.loss_neg_obj_weights", "loss.background_weight")
    made.keep(f"{section}.label_smoothing", "loss.label_smoothing")
    name = f"{section}.loss_loc_weight"
    if name in spec.values:
        why = "TAO weighs a box by 2 - its share of the picture, which is 2 for small ones"
        made.change(name, "loss.box_gain", 2 * spec.get(name), why)
    alpha, gamma = (f"{section}.focal_loss_{greek}" for greek in ("alpha", "gamma"))
    if spec.get(alpha, 0) > 0 and spec.get(gamma, 0) > 0:
        made.keep(alpha, "loss.focal_alpha")
        made.keep(gamma, "loss.focal_gamma")
        made.set("loss.focal_terms", "objectness")
    else:
        for name in (alpha, gamma):
            made.note("kept", name, "no focal loss, as TAO without both")
    _class_weights(made)


def translate_training(made: Translation, num_pictures: int | None) -> None:
    """Fill ``train``, ``epochs`` and ``batch_size``."""
    spec, section = made.spec, "training_config"
    made.keep("random_seed", "train.seed")
    if section not in spec.messages:
        return
    made.keep(f"{section}.batch_size_per_gpu", "batch_size")
    made.keep(f"{section}.num_epochs", "epochs")
    made.keep(f"{section}.n_workers", "train.workers")
    _schedule(made)
    _regulariser(made)
    _optimiser(made)
    _checkpoints(made, num_pictures)
    _average_and_stopping(made)
    made.keep(f"{section}.visualizer.enabled", "train.tensorboard")
    made.drop(
        [f"{section}.visualizer.{name}" for name in ("num_images", "weight_histograms")],
        "the run's folder holds the first batches and the curves as pictures",
    )
    others = ("wandb_config", "clearml_config")
    trackers = [n for other in others for n in spec.under(f"{section}.visualizer.{other}")]
    made.drop(trackers, "runs are tracked by TensorBoard and MLflow (train.mlflow)")
    made.drop([f"{section}.use_multiprocessing", f"{section}.max_queue_size"], _LOADING)
    made.drop([f"{section}.enable_qat"], "INT8 comes with the export: tilth detect export --int8")
    made.drop(spec.under(f"{section}.cost_scaling"), "train.precision = 'bf16' needs no scaling")
    paths = [f"{section}.{kind}_model_path" for kind in ("resume", "pretrain", "pruned")]
    made.drop(paths, f"{_FILES}; model.weights takes a run, safetensors or Darknet's weights")


def translate_augmentation(made: Translation) -> None:
    """Fill ``augment``; what TAO does not do is switched off."""
    spec, section = made.spec, "augmentation_config"
    if section not in spec.messages:
        return
    for name in ("scale", "translate", "close_mosaic"):
        made.set(f"augment.{name}", 0.0)
    ours = {
        "vertical_flip": "vertical_flip_probability",
        "horizontal_flip": "flip_probability",
        "mosaic_prob": "mosaic",
        "saturation": "saturation_factor",
        "exposure": "exposure_factor",
    }
    for theirs, name in ours.items():
        made.set(f"augment.{name}", 1.0 if name.endswith("factor") else 0.0)
        made.keep(f"{section}.{theirs}", f"augment.{name}")
    for theirs, limit in (("hue", 0.5), ("jitter", MAX_JITTER)):
        name, path = f"{section}.{theirs}", f"augment.{theirs}"
        made.set(path, 0.0)
        if spec.get(name, 0.0) > limit:
            made.change(name, path, limit, "the most that is done here")
        else:
            made.keep(name, path)
    low = spec.get(f"{section}.mosaic_min_ratio")
    if low is not None:
        cut = [low, round(1 - low, 9)]
        made.change(f"{section}.mosaic_min_ratio", "augment.mosaic_cut", cut, "both ends")
    period = spec.get(f"{section}.randomize_input_shape_period", 0)
    if period:
        made.set("augment.multi_scale_every", period)
    made.set("augment.multi_scale", MULTI_SCALE if period else 1.0)
    text = f"augment.multi_scale = {MULTI_SCALE if period else 1.0}, every {period} steps"
    made.note("changed", f"{section}.randomize_input_shape_period", text)
    for name, usual in (("output_channel", 3), ("output_depth", 8)):
        if spec.get(f"{section}.{name}", usual) in (usual, 0):
            made.note("kept", f"{section}.{name}", "pictures are read as RGB of 8 bits")
        else:
            made.drop([f"{section}.{name}"], "pictures are read as RGB of 8 bits, grey ones too")
    made.drop([f"{section}.image_mean"], "the network takes RGB in 0 to 1, as Darknet's does")


def _class_weights(made: Translation) -> None:
    spec, section = made.spec, "class_weighting_config"
    pairs = spec.many(f"{section}.class_weighting")
    weights = {str(pair.value.get("key")): float(pair.value.get("value", 0.0)) for pair in pairs}
    if weights:
        names = class_names(spec)
        value = [weights.get(name, 1.0) for name in names]
        why = f"in the order {', '.join(names)}, which the commands below import them in"
        made.change(f"{section}.class_weighting", "loss.class_weights", value, why)
    elif spec.get(f"{section}.enable_auto"):
        made.set("loss.class_weights", "balanced")
    why = "loss.class_weights" if not weights else "the weights are given"
    made.note("kept", f"{section}.enable_auto", why)


def _schedule(made: Translation) -> None:
    spec, section = made.spec, "training_config.learning_rate"
    for kind in ("soft_start_annealing_schedule", "soft_start_cosine_annealing_schedule"):
        name = f"{section}.{kind}"
        if name not in spec.messages:
            continue
        low, high = (spec.get(f"{name}.{end}_learning_rate", 0.0) for end in ("min", "max"))
        if high <= 0 or low > high:
            raise SettingsError(
                "the learning rates cannot be used",
                where=f"{spec.where}:{spec.messages[name]}",
                expected="max_learning_rate above 0, min_learning_rate not above it",
                got=f"{high:g} and {low:g}",
            )
        made.keep(f"{name}.max_learning_rate", "train.learning_rate")
        made.keep(f"{name}.soft_start", "train.warmup_fraction")
        made.set("train.warmup_steps", 0)
        ratio = round(low / high, 12)
        if kind == "soft_start_cosine_annealing_schedule":
            made.set("train.schedule", "cosine")
            why = "the end as a share of the peak; the rise begins at 0, not there"
            path = "train.final_learning_rate_fraction"
            made.change(f"{name}.min_learning_rate", path, ratio, why)
        else:
            _staircase(made, name, max(ratio, 1e-6))


def _staircase(made: Translation, name: str, ratio: float) -> None:
    """An exponential way down, as equal drops from where it starts to the end."""
    start = min(max(made.spec.get(f"{name}.annealing", 0.5), 0.01), 0.99)
    drops = [round(start + (1 - start) * i / DECAY_STEPS, 6) for i in range(DECAY_STEPS)]
    factor = ratio ** (1 / DECAY_STEPS)
    made.set("train.schedule", "steps")
    why = f"{DECAY_STEPS} drops in the place of one exponential"
    made.change(f"{name}.annealing", "train.drops_at", drops, why)
    made.set("train.drops_at", drops)
    made.set("train.drop_factor", factor)
    made.note("changed", f"{name}.min_learning_rate", f"train.drop_factor = {factor:.4g}: {why}")


def _regulariser(made: Translation) -> None:
    section = "training_config.regularizer"
    kind = made.spec.get(f"{section}.type", "NO_REG")
    weight = made.spec.get(f"{section}.weight", 0.0)
    made.set("train.l1", weight if kind == "L1" else 0.0)
    made.set("train.weight_decay", 2 * weight if kind == "L2" else 0.0)
    made.note("kept", f"{section}.type", f"train.l1 and train.weight_decay for {kind}")
    texts = {
        "L1": ("kept", f"train.l1 = {weight:g}"),
        "L2": ("changed", f"train.weight_decay = {2 * weight:g}: the gradient of weight * w^2"),
        "NO_REG": ("dropped", "without a regulariser it says nothing"),
    }
    outcome, text = texts[kind]
    made.note(outcome, f"{section}.weight", text)  # type: ignore[arg-type]


def _optimiser(made: Translation) -> None:
    section = "training_config.optimizer"
    chosen = [kind for kind in _OPTIMISERS if f"{section}.{kind}" in made.spec.messages]
    if not chosen:
        return
    kind = chosen[-1]  # of several, protocol buffers keep the last
    made.drop([n for k in chosen[:-1] for n in made.spec.under(f"{section}.{k}")], f"{kind} counts")
    made.set("train.optimiser", kind)
    ours, name = _OPTIMISERS[kind], f"{section}.{kind}"
    made.keep(f"{name}.{ours.momentum}", "train.momentum")
    made.keep(f"{name}.nesterov", "train.nesterov")
    for option, value in ours.fixed.items():
        given = made.spec.get(f"{name}.{option}", value)
        if math.isclose(given, value):
            made.note("kept", f"{name}.{option}", "the only value here")
        else:
            made.drop([f"{name}.{option}"], f"it is {value:g} here")


def _checkpoints(made: Translation, num_pictures: int | None) -> None:
    name = "training_config.checkpoint_interval"
    interval = made.spec.get(name)
    if interval is None:
        return
    if num_pictures is None:
        made.drop([name], "checkpoints count steps here; --pictures N gives them by epochs")
        return
    batch = max(1, made.spec.get("training_config.batch_size_per_gpu", 1))
    steps = max(1, interval * math.ceil(num_pictures / batch))
    why = f"{interval} epochs of {num_pictures} pictures"
    made.change(name, "train.checkpoint_every", steps, why)


def _average_and_stopping(made: Translation) -> None:
    spec, section = made.spec, "training_config"
    if not spec.get(f"{section}.model_ema", False):
        made.set("train.ema_decay", 0.0)
    text = "train.ema_decay: its default" if spec.get(f"{section}.model_ema") else "no average"
    made.note("kept", f"{section}.model_ema", text)
    stopping = f"{section}.early_stopping"
    made.keep(f"{stopping}.patience", "train.patience")
    made.drop([f"{stopping}.monitor"], "runs stop by AP50 of the val split, not by the loss")
    made.drop([f"{stopping}.min_delta"], "it counts loss; train.min_delta counts AP50")
