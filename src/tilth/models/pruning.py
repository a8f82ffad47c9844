"""Make a network smaller by removing its weakest filters, with every layer that reads them.

Source: Li, Kadav, Durdanovic, Samet, Graf, 2017, Pruning Filters for Efficient ConvNets, arXiv
    1608.08710v3; the knobs are those of NVIDIA TAO's `yolo_v4 prune`.
Follows: section 3.1 (filters of small norm go, with the following layers' kernels) -> `removed`;
    section 3.1 with TAO's division by the layer's maximum -> `filter_strengths`; section 3.3
    (layers whose channels are added) -> `group_strengths`.
Symbols: threshold = TAO's -pth; granularity = -pg; min_filters = -nf; equalisation = -eq.
Differs: norms are Euclidean, as TAO's, where the paper sums absolute values; what must go together
    is read off the network (`tilth.models.channel_groups`), depthwise convolutions and grouped
    routes too; instead of a threshold the share of the operations to keep can be given.
Checked by: `test_removing_dead_filters_changes_nothing`, `test_keep_flops_is_kept_to`,
    `test_strengths_equal_a_plain_twin`, `test_granularity_and_smallest_number`
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tilth.errors import SettingsError
from tilth.models.channel_groups import ChannelGroups, channel_groups
from tilth.models.darknet import Convolution, Darknet
from tilth.models.darknet_cfg import with_options
from tilth.models.network_size import LayerSize, grid_cells, layer_sizes

__all__ = ["PrunedNetwork", "PruningSettings", "prune"]

Equalisation = Literal["union", "intersection", "arithmetic_mean", "geometric_mean"]


@dataclass(frozen=True, kw_only=True)
class PruningSettings:
    """What is to go.

    Attributes:
        threshold: filters weaker than this go; 1 is the strongest of its layer.
        keep_flops: share of the operations to keep; above 0 it takes the place of ``threshold``,
            which becomes the lowest that is enough.
        strength: "kernel" is the norm of a filter's weights, as in TAO; "normed" that after batch
            normalisation, which is what the layer computes with in the end.
        granularity: filters are removed so many at a time.
        min_filters: a layer keeps at least so many, or all that it has.
        equalisation: of channels that go together, which count: the strongest of them ("union" of
            what the layers would keep), the weakest ("intersection"), or a mean.
        excluded: layers, by their number in the network file, that keep all filters. Heads do.
    """

    threshold: float = 0.1
    keep_flops: float = 0.0
    strength: Literal["kernel", "normed"] = "kernel"
    granularity: int = 8
    min_filters: int = 16
    equalisation: Equalisation = "union"
    excluded: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ranges = {
            "threshold": (self.threshold >= 0, "0 or more; 0.1 is usual"),
            "keep_flops": (0 <= self.keep_flops < 1, "0 (off), or a share below 1"),
            "granularity": (self.granularity >= 1, "1 or more"),
            "min_filters": (self.min_filters >= 1, "1 or more"),
        }
        for name, (is_usable, expected) in ranges.items():
            if not is_usable:
                got = str(getattr(self, name))
                raise SettingsError(f"'{name}' cannot be used", expected=expected, got=got)


@dataclass(frozen=True, kw_only=True)
class PrunedNetwork:
    """A smaller network, and what became of the large one.

    Attributes:
        model: in evaluation mode.
        threshold: filters below it were to go.
        before, after: one entry a convolution, in the same order.
    """

    model: Darknet
    threshold: float
    before: tuple[LayerSize, ...]
    after: tuple[LayerSize, ...]


def prune(model: Darknet, settings: PruningSettings) -> PrunedNetwork:
    """A smaller network of what is strong in ``model``, which stays as it is.

    Raises:
        SettingsError: ``keep_flops`` cannot be reached with this granularity and smallest number,
            or an excluded layer is none.
    """
    groups = channel_groups(model)
    unknown = sorted(set(settings.excluded) - set(groups.filters))
    if unknown:
        raise SettingsError(
            "'excluded' names a layer that is no convolution",
            expected=", ".join(map(str, sorted(groups.filters))),
            got=str(unknown[0]),
        )
    strengths = group_strengths(
        filter_strengths(model, settings.strength), groups, settings.equalisation
    )
    before = layer_sizes(model)
    threshold = settings.threshold
    if settings.keep_flops:
        threshold = _threshold_for(model, groups, strengths, settings)
    smaller = _without(model, groups, removed(strengths, groups, threshold, settings))
    return PrunedNetwork(
        model=smaller, threshold=threshold, before=before, after=layer_sizes(smaller)
    )


@torch.no_grad()
def filter_strengths(
    model: Darknet, kind: Literal["kernel", "normed"]
) -> dict[int, Float[np.ndarray, "filters"]]:
    """Norm of each filter over the largest in its layer, by the number of the layer."""
    strengths = {}
    for index, layer in model.weighted_layers():
        norms = layer.conv.weight.flatten(1).double().norm(dim=1)
        if kind == "normed" and layer.norm is not None:
            assert layer.norm.running_var is not None
            deviation = (layer.norm.running_var.double() + layer.norm.eps).sqrt()
            norms = norms * layer.norm.weight.double().abs() / deviation
        largest = norms.max()
        strengths[index] = (norms / largest if largest > 0 else norms).cpu().numpy()
    return strengths


def group_strengths(
    strengths: Mapping[int, Float[np.ndarray, "_"]],
    groups: ChannelGroups,
    equalisation: Equalisation,
) -> Float[np.ndarray, "groups"]:
    """One number for channels that go together, from those of all their filters."""
    owner = np.concatenate([groups.filters[index] for index in sorted(groups.filters)])
    value = np.concatenate([strengths[index] for index in sorted(groups.filters)])
    count = len(groups.unit)
    if equalisation == "union":
        most = np.zeros(count)
        np.maximum.at(most, owner, value)
        return most
    if equalisation == "intersection":
        least = np.full(count, np.inf)
        np.minimum.at(least, owner, value)
        return least
    members = np.bincount(owner, minlength=count).clip(min=1)
    if equalisation == "arithmetic_mean":
        return np.bincount(owner, weights=value, minlength=count) / members
    with np.errstate(divide="ignore"):  # a filter of zeros has the logarithm -inf, and mean 0
        return np.exp(np.bincount(owner, weights=np.log(value), minlength=count) / members)


def removed(
    strengths: Float[np.ndarray, "groups"],
    groups: ChannelGroups,
    threshold: float,
    settings: PruningSettings,
) -> Bool[np.ndarray, "groups"]:
    """Which groups go: the weakest of each unit, as many as all units of its set can spare."""
    stays = groups.is_fixed.copy()
    for index in settings.excluded:
        stays[groups.filters[index]] = True
    goes = np.zeros(len(strengths), dtype=bool)
    for balance in np.unique(groups.balance):
        units = [
            np.flatnonzero(groups.unit == unit)
            for unit in np.flatnonzero(groups.balance == balance)
        ]
        if any(stays[rows].any() for rows in units):
            continue
        spared = min(_num_removed(strengths[rows], threshold, settings) for rows in units)
        for rows in units:
            weakest = rows[np.argsort(strengths[rows], kind="stable")]
            goes[weakest[:spared]] = True
    return goes


def _num_removed(
    strengths: Float[np.ndarray, "_"], threshold: float, settings: PruningSettings
) -> int:
    weak = int((strengths < threshold).sum())
    spare = max(0, len(strengths) - settings.min_filters)
    return min(weak, spare) // settings.granularity * settings.granularity


def _threshold_for(
    model: Darknet,
    groups: ChannelGroups,
    strengths: Float[np.ndarray, "_"],
    settings: PruningSettings,
) -> float:
    """The lowest threshold that leaves at most the share of operations that is to be kept."""
    cells = grid_cells(model)

    def share(threshold: float) -> float:
        kept = ~removed(strengths, groups, threshold, settings)
        return _flops_of(model, groups, kept, cells) / whole

    everything = np.ones(len(strengths), dtype=bool)
    whole = _flops_of(model, groups, everything, cells)
    # What lies just above a strength removes it; between two strengths nothing changes.
    steps = np.append(np.nextafter(np.unique(strengths), np.inf), np.inf)
    if share(np.inf) > settings.keep_flops:
        raise SettingsError(
            "so few operations cannot be reached",
            expected=f"keep_flops of {share(np.inf):.3f} or more",
            got=str(settings.keep_flops),
            fix="lower granularity or min_filters, or exclude fewer layers",
        )
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high) // 2
        if share(float(steps[middle])) <= settings.keep_flops:
            high = middle
        else:
            low = middle + 1
    return float(steps[low])


def _flops_of(
    model: Darknet, groups: ChannelGroups, kept: Bool[np.ndarray, "_"], cells: Mapping[int, int]
) -> int:
    """Operations of the network with the channels that are kept, without building it."""
    total = 0
    for index, layer in model.weighted_layers():
        read = int(kept[groups.inputs[index]].sum())
        if layer.conv.groups > 1:  # of those that stay, each reads as many as before
            read = layer.conv.weight.shape[1]
        filters = int(kept[groups.filters[index]].sum())
        total += 2 * filters * read * layer.conv.weight[0, 0].numel() * cells[index]
    return total


@torch.no_grad()
def _without(model: Darknet, groups: ChannelGroups, gone: Bool[np.ndarray, "groups"]) -> Darknet:
    """The network with the same layers, and fewer channels in them."""
    kept_filters = {index: _rows(~gone[own]) for index, own in groups.filters.items()}
    changes: dict[tuple[int, str], object] = {}
    for index, layer in model.weighted_layers():
        filters = len(kept_filters[index])
        if filters == layer.channels:
            continue
        changes[index, "filters"] = filters
        if layer.conv.groups > 1:
            changes[index, "groups"] = layer.conv.groups * filters // layer.channels
    eps = next((n.norm.eps for _, n in model.weighted_layers() if n.norm is not None), 1e-5)
    smaller = Darknet(with_options(model.cfg, changes), batch_norm_eps=eps)
    for index, layer in model.weighted_layers():
        read = None if layer.conv.groups > 1 else _rows(~gone[groups.inputs[index]])
        target = smaller.layers[index]
        assert isinstance(target, Convolution)
        _take(target, layer, kept_filters[index], read)
    return smaller.eval()


def _rows(kept: Bool[np.ndarray, "_"]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(kept))


def _take(target: Convolution, source: Convolution, filters: Tensor, read: Tensor | None) -> None:
    """Fill a smaller convolution with some filters of a larger one, and some of what they read."""
    filters = filters.to(source.conv.weight.device)
    weight = source.conv.weight[filters]
    target.conv.weight.copy_(weight if read is None else weight[:, read.to(filters.device)])
    if source.norm is None:
        assert target.conv.bias is not None
        assert source.conv.bias is not None
        target.conv.bias.copy_(source.conv.bias[filters])
        return
    for name, value in source.norm.state_dict().items():
        whole = value if value.ndim == 0 else value[filters]
        assert target.norm is not None
        target.norm.state_dict()[name].copy_(whole)
