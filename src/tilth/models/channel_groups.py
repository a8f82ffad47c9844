"""Which channels of a network must be removed together, read off the network itself.

A filter is its convolution's output channel and every later layer's input channel. Layers that add
channels (shortcuts), multiply them (squeeze and excitation) or filter each by itself (depthwise
convolutions) tie channels of several convolutions: these go together or stay together. A grouped
route, which takes one of several equal parts, asks only that the parts stay equally long. What a
head reads, and the picture, is not to be changed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from numpy.typing import NDArray

from tilth.models.darknet import Convolution, Darknet

__all__ = ["ChannelGroups", "channel_groups"]

Channels = NDArray[np.int64]  # one number a channel


@dataclass(frozen=True, kw_only=True)
class ChannelGroups:
    """Every channel of a network has the number of its group; those of one group go together.

    Attributes:
        filters: by the number of a convolution's layer, the groups of its filters.
        inputs: likewise, the groups of the channels that it reads.
        is_fixed: by group, whether it must stay: a head's, or the picture.
        unit: by group, the unit that it belongs to. The groups of a unit are the filters of the
            same convolutions, so that they compare, and counts such as a smallest number are a
            unit's.
        balance: by unit, the set that it belongs to: units of one set keep equally many groups.
    """

    filters: dict[int, Channels]
    inputs: dict[int, Channels]
    is_fixed: Bool[np.ndarray, "groups"]
    unit: Int64[np.ndarray, "groups"]
    balance: Int64[np.ndarray, "units"]


def channel_groups(model: Darknet) -> ChannelGroups:
    """Go through the network's layers, from the picture to the heads."""
    walk = _Walk(model)
    walk.run()
    unit_of_root = walk.settle()
    roots, group_of = np.unique(walk.ties.roots(), return_inverse=True)
    return ChannelGroups(
        filters={index: group_of[nodes] for index, nodes in walk.filters.items()},
        inputs={index: group_of[nodes] for index, nodes in walk.inputs.items()},
        is_fixed=roots == _FIXED,
        unit=unit_of_root[roots],
        balance=_balance(walk, unit_of_root),
    )


_FIXED = 0  # the node of all channels that must stay


class _Ties:
    """Sets that grow together: nodes 0, 1, 2, ..., each at first a set of its own."""

    def __init__(self) -> None:
        self._parent: list[int] = [_FIXED]

    def new(self, count: int) -> Channels:
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def tie(self, some: Channels, others: Channels) -> None:
        """The first of ``some`` with the first of ``others``, and so on."""
        for one, other in zip(some.tolist(), others.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parent[high] = low

    def tie_all(self, nodes: Channels) -> None:
        self.tie(nodes[1:], np.full(len(nodes) - 1, nodes[0]))

    def roots(self) -> Channels:
        return np.array([self._root(node) for node in range(len(self._parent))], dtype=np.int64)

    def _root(self, node: int) -> int:
        while (above := self._parent[node]) != node:
            self._parent[node] = self._parent[above]
            node = above
        return node


class _Walk:
    """The nodes of every layer's channels: a convolution makes new ones, the others pass on."""

    def __init__(self, model: Darknet) -> None:
        self.model = model
        self.ties = _Ties()
        self.filters: dict[int, Channels] = {}
        self.inputs: dict[int, Channels] = {}
        self.splits: list[
            tuple[int, int]
        ] = []  # a convolution, and the parts of it that routes see

    def run(self) -> None:
        """Tie what the layers tie."""
        pictures = self.model.cfg.net.integer("channels", 3)
        channels = {-1: np.full(pictures, _FIXED, dtype=np.int64)}
        for index in range(len(self.model.layers)):
            read = [channels[source] for source in self.model.sources[index]]
            channels[index] = self._layer(index, read)
        last = len(self.model.layers) - 1
        for index in self.model.cfg.heads or (last,):
            self._fix(channels[index])

    def _layer(self, index: int, read: list[Channels]) -> Channels:
        section = self.model.cfg.layers[index]
        match section.kind:
            case "convolutional":
                return self._convolution(index, read[0])
            case "route":
                groups, group = section.integer("groups", 1), section.integer("group_id", 0)
                return np.concatenate([self._part(nodes, groups, group) for nodes in read])
            case "shortcut":
                for other in read[1:]:
                    shared = min(len(read[0]), len(other))
                    self.ties.tie(read[0][:shared], other[:shared])
            case "scale_channels" | "sam":
                factors, features = read
                if len(factors) == len(features):
                    self.ties.tie(factors, features)
                else:  # one factor for all
                    self._fix(factors)
                return features
            case "reorg":
                return self._reorg(read[0], section.integer("stride", 1))
            case "softmax":
                self._fix(read[0])
        return read[0]

    def _convolution(self, index: int, read: Channels) -> Channels:
        layer = self.model.layers[index]
        assert isinstance(layer, Convolution)
        nodes = self.ties.new(layer.channels)
        self.filters[index], self.inputs[index] = nodes, read
        groups = layer.conv.groups
        if groups > 1:  # a group reads and makes its own channels: it goes or stays as a whole
            for ins, outs in zip(np.split(read, groups), np.split(nodes, groups), strict=True):
                self.ties.tie_all(np.concatenate([ins, outs]))
        return nodes

    def _part(self, nodes: Channels, groups: int, group: int) -> Channels:
        if groups == 1:
            return nodes
        of_one = [index for index, own in self.filters.items() if np.array_equal(own, nodes)]
        if of_one:
            self.splits.append((of_one[0], groups))
        else:
            self._tie_parts(nodes, groups)
        return np.split(nodes, groups)[group]

    def _reorg(self, read: Channels, stride: int) -> Channels:
        # Darknet's reorg mixes stride² channels that stand together, and spreads each such block
        # over stride² places of the result, stride² channels at each.
        area = stride**2
        blocks = read.reshape(-1, area)
        for block in blocks:
            self.ties.tie_all(block)
        return np.tile(np.repeat(blocks[:, 0], area), area)

    def _tie_parts(self, nodes: Channels, groups: int) -> None:
        first, *others = np.split(nodes, groups)
        for other in others:
            self.ties.tie(first, other)

    def _fix(self, nodes: Channels) -> None:
        self.ties.tie(nodes, np.full(len(nodes), _FIXED))

    def settle(self) -> Channels:
        """The unit of every root. Parts of a split that are no whole units are tied instead."""
        while True:
            roots = self.ties.roots()
            unit = self._units(roots)
            broken = [split for split in self.splits if not self._is_whole(split, roots, unit)]
            if not broken:
                return unit
            for index, groups in broken:
                self._tie_parts(self.filters[index], groups)
            self.splits = [split for split in self.splits if split not in broken]

    def _units(self, roots: Channels) -> Channels:
        """Groups whose filters are of the same convolutions, and the same parts of them."""
        members: dict[int, list[tuple[int, ...]]] = {_FIXED: []}
        for index, nodes in self.filters.items():
            cuts = [len(nodes) // groups for owner, groups in self.splits if owner == index]
            for number, root in enumerate(roots[nodes].tolist()):
                place = (index, *(number // cut for cut in cuts))
                members.setdefault(root, []).append(place)
        numbers: dict[tuple[tuple[int, ...], ...], int] = {}
        unit = np.full(len(roots), -1, dtype=np.int64)
        for root in sorted(members):
            key = ((-1,),) if root == _FIXED else tuple(sorted(members[root]))
            unit[root] = numbers.setdefault(key, len(numbers))
        return unit

    def _is_whole(self, split: tuple[int, int], roots: Channels, unit: Channels) -> bool:
        """Whether every part is all groups of one unit, one channel of each."""
        index, groups = split
        for part in np.split(roots[self.filters[index]], groups):
            units = set(unit[part].tolist())
            is_one = len(units) == 1 and len(set(part.tolist())) == len(part)
            if not is_one or int((unit == unit[part[0]]).sum()) != len(part):
                return False
        return True


def _balance(walk: _Walk, unit_of_root: Channels) -> Channels:
    """The set of every unit: one of its own, but for the parts of a split."""
    roots, ties = walk.ties.roots(), _Ties()
    ties.new(int(unit_of_root.max()))
    for index, groups in walk.splits:
        firsts = np.array([part[0] for part in np.split(walk.filters[index], groups)])
        ties.tie_all(unit_of_root[roots[firsts]])
    return ties.roots()
