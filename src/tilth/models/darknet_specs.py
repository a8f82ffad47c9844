"""Network files of the published YOLOv4 detectors, written from a short description of each.

Source: Bochkovskiy, Wang, Liao, 2020, YOLOv4, arXiv 2004.10934v1; Wang, Bochkovskiy, Liao, 2021,
    Scaled-YOLOv4, arXiv 2011.08036v2 (YOLOv4-CSP, YOLOv4-tiny); the order and sizes of layers are
    those of the published yolov4.cfg, yolov4-tiny.cfg, yolov4-tiny-3l.cfg and yolov4-csp.cfg, so
    that their weights fit.
Follows: yolov4.cfg -> `yolov4_cfg`; yolov4-tiny.cfg, yolov4-tiny-3l.cfg -> `yolov4_tiny_cfg`;
    yolov4-csp.cfg -> `yolov4_csp_cfg`.
Symbols: residual counts 1-2-8-8-4 are the blocks of the five stages of CSPDarknet53.
Differs: the text is ours, and says nothing about training but the input's size.
Checked by: `test_parameter_counts_of_the_published_files`, `test_layer_counts_of_yolov4`,
    `test_random_networks_equal_opencv`
"""

from collections.abc import Callable, Sequence

from tilth.errors import SettingsError
from tilth.models.darknet_cfg import DarknetCfg, parse_cfg

__all__ = ["SPECS", "built_in_cfg", "yolov4_cfg", "yolov4_csp_cfg", "yolov4_tiny_cfg"]

RESIDUAL_BLOCKS = (1, 2, 8, 8, 4)
_ANCHORS_V4 = "12,16, 19,36, 40,28, 36,75, 76,55, 72,146, 142,110, 192,243, 459,401"
_ANCHORS_TINY = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
_ANCHORS_TINY_3L = "12,16, 19,36, 40,28, 36,75, 76,55, 72,146, 142,110, 192,243, 459,401"


class _Writer:
    """Sections one after the other, as text."""

    def __init__(self, size: int) -> None:
        self.sections = [_section("net", width=size, height=size, channels=3)]

    def conv(
        self,
        filters: int,
        size: int,
        *,
        stride: int = 1,
        act: str,
        normed: bool = True,
    ) -> None:
        normalise = {"batch_normalize": 1} if normed else {}
        shape = {"filters": filters, "size": size, "stride": stride, "pad": 1}
        self.sections.append(_section("convolutional", **normalise, **shape, activation=act))

    def route(self, layers: str, **options: int) -> None:
        self.sections.append(_section("route", layers=layers, **options))

    def shortcut(self, source: int) -> None:
        self.sections.append(_section("shortcut", **{"from": source}, activation="linear"))

    def maxpool(self, size: int, stride: int) -> None:
        self.sections.append(_section("maxpool", size=size, stride=stride))

    def upsample(self) -> None:
        self.sections.append(_section("upsample", stride=2))

    def head(
        self, num_classes: int, mask: str, anchors: str, scale: float, *, new_coords: bool = False
    ) -> None:
        """The convolution that gives a head's map, and the head."""
        filters = (5 + num_classes) * len(mask.split(","))
        act = "logistic" if new_coords else "linear"
        self.conv(filters, 1, act=act, normed=False)
        coords = {"new_coords": 1} if new_coords else {}
        shape = {"mask": mask, "anchors": anchors, "num": anchors.count(",") // 2 + 1}
        self.sections.append(
            _section("yolo", **shape, classes=num_classes, scale_x_y=scale, **coords)
        )

    def cfg(self, where: str) -> DarknetCfg:
        return parse_cfg("\n".join(self.sections), where=where)

    @property
    def last(self) -> int:
        """The number of the last layer."""
        return len(self.sections) - 2


def _section(kind: str, **options: object) -> str:
    return "\n".join([f"[{kind}]", *(f"{name}={value}" for name, value in options.items()), ""])


def yolov4_cfg(
    num_classes: int, *, size: int = 608, blocks: Sequence[int] = RESIDUAL_BLOCKS
) -> DarknetCfg:
    """YOLOv4: CSPDarknet53, spatial pyramid pooling, path aggregation, three heads.

    Args:
        blocks: residual blocks of each of the five stages.
    """
    net = _Writer(size)
    taps = _csp_darknet53(net, blocks)
    _alternate(net, 512, 3, act="leaky")
    _pyramid(net)
    _alternate(net, 512, 3, act="leaky")
    coarse = net.last
    middle = _up(net, 256, taps[1], act="leaky")
    _up(net, 128, taps[0], act="leaky")
    net.conv(256, 3, act="leaky")
    net.head(num_classes, "0,1,2", _ANCHORS_V4, 1.2)
    _down(net, 256, -4, middle, act="leaky")
    net.conv(512, 3, act="leaky")
    net.head(num_classes, "3,4,5", _ANCHORS_V4, 1.1)
    _down(net, 512, -4, coarse, act="leaky")
    net.conv(1024, 3, act="leaky")
    net.head(num_classes, "6,7,8", _ANCHORS_V4, 1.05)
    return net.cfg("yolov4")


def _csp_darknet53(net: _Writer, blocks: Sequence[int]) -> tuple[int, int]:
    """Stem and five stages; the numbers of the layers of strides 8 and 16."""
    net.conv(32, 3, act="mish")
    ends = [
        _csp_stage(net, channels, count, first=channels == 64)
        for channels, count in zip((64, 128, 256, 512, 1024), blocks, strict=True)
    ]
    return ends[2], ends[3]


def _csp_stage(net: _Writer, channels: int, blocks: int, *, first: bool) -> int:
    """Half the grid; one branch goes around the residual blocks. The number of its last layer."""
    branch = channels if first else channels // 2
    hidden = 32 if first else branch
    net.conv(channels, 3, stride=2, act="mish")
    net.conv(branch, 1, act="mish")
    around = net.last
    net.route("-2")
    net.conv(branch, 1, act="mish")
    for _ in range(blocks):
        net.conv(hidden, 1, act="mish")
        net.conv(branch, 3, act="mish")
        net.shortcut(-3)
    net.conv(branch, 1, act="mish")
    net.route(f"-1,{around - net.last - 1}")
    net.conv(channels, 1, act="mish")
    return net.last


def _alternate(net: _Writer, channels: int, count: int, *, act: str) -> None:
    """1x1 to ``channels``, 3x3 to twice as many, 1x1 back, and so on."""
    for number in range(count):
        if number % 2 == 0:
            net.conv(channels, 1, act=act)
        else:
            net.conv(2 * channels, 3, act=act)


def _pyramid(net: _Writer) -> None:
    """Maxima over 5, 9 and 13 cells beside the input, in the order 13, 9, 5, input."""
    net.maxpool(5, 1)
    net.route("-2")
    net.maxpool(9, 1)
    net.route("-4")
    net.maxpool(13, 1)
    net.route("-1,-3,-5,-6")


def _up(net: _Writer, channels: int, tap: int, *, act: str) -> int:
    """To a grid twice as fine, beside the backbone's features; the number of the last layer."""
    net.conv(channels, 1, act=act)
    net.upsample()
    net.route(str(tap))
    net.conv(channels, 1, act=act)
    net.route("-1,-3")
    _alternate(net, channels, 5, act=act)
    return net.last


def _down(net: _Writer, channels: int, before_head: int, coarse: int, *, act: str) -> None:
    """From the features before a head to half the grid, beside the coarser ones."""
    net.route(str(before_head))
    net.conv(channels, 3, stride=2, act=act)
    net.route(f"-1,{coarse}")
    _alternate(net, channels, 5, act=act)


def yolov4_tiny_cfg(num_classes: int, *, size: int = 416, heads: int = 2) -> DarknetCfg:
    """YOLOv4-tiny with its two heads, or the three of yolov4-tiny-3l."""
    net = _Writer(size)
    net.conv(32, 3, stride=2, act="leaky")
    net.conv(64, 3, stride=2, act="leaky")
    taps = [_tiny_block(net, channels) for channels in (64, 128, 256)]
    net.conv(512, 3, act="leaky")
    net.conv(256, 1, act="leaky")
    net.conv(512, 3, act="leaky")
    masks = ("3,4,5", "1,2,3") if heads == 2 else ("6,7,8", "3,4,5", "0,1,2")
    anchors = _ANCHORS_TINY if heads == 2 else _ANCHORS_TINY_3L
    net.head(num_classes, masks[0], anchors, 1.05)
    for mask, lateral, hidden, tap in zip(
        masks[1:], (128, 64), (256, 128), (taps[2], taps[1]), strict=False
    ):
        net.route("-4" if lateral == 128 else "-3")
        net.conv(lateral, 1, act="leaky")
        net.upsample()
        net.route(f"-1,{tap}")
        net.conv(hidden, 3, act="leaky")
        net.head(num_classes, mask, anchors, 1.05)
    return net.cfg("yolov4-tiny" if heads == 2 else "yolov4-tiny-3l")


def _tiny_block(net: _Writer, channels: int) -> int:
    """A partial block on half of the channels, and half the grid; its features before that."""
    net.conv(channels, 3, act="leaky")
    net.route("-1", groups=2, group_id=1)
    net.conv(channels // 2, 3, act="leaky")
    net.conv(channels // 2, 3, act="leaky")
    net.route("-1,-2")
    net.conv(channels, 1, act="leaky")
    features = net.last
    net.route("-6,-1")
    net.maxpool(2, 2)
    return features


def yolov4_csp_cfg(num_classes: int, *, size: int = 512) -> DarknetCfg:
    """YOLOv4-CSP of Scaled-YOLOv4: partial blocks in the neck too, Mish everywhere."""
    net = _Writer(size)
    taps = _csp_backbone_of_scaled(net)
    coarse = _csp_pyramid(net)
    middle = _csp_up(net, 256, taps[1])
    _csp_up(net, 128, taps[0])
    net.conv(256, 3, act="mish")
    net.head(num_classes, "0,1,2", _ANCHORS_V4, 2.0, new_coords=True)
    _csp_down(net, 256, middle)
    net.conv(512, 3, act="mish")
    net.head(num_classes, "3,4,5", _ANCHORS_V4, 2.0, new_coords=True)
    _csp_down(net, 512, coarse)
    net.conv(1024, 3, act="mish")
    net.head(num_classes, "6,7,8", _ANCHORS_V4, 2.0, new_coords=True)
    return net.cfg("yolov4-csp")


def _csp_backbone_of_scaled(net: _Writer) -> tuple[int, int]:
    """As CSPDarknet53, but the first stage is a plain residual block."""
    net.conv(32, 3, act="mish")
    net.conv(64, 3, stride=2, act="mish")
    net.conv(32, 1, act="mish")
    net.conv(64, 3, act="mish")
    net.shortcut(-3)
    ends = [
        _csp_stage(net, channels, blocks, first=False)
        for channels, blocks in ((128, 2), (256, 8), (512, 8), (1024, 4))
    ]
    return ends[1], ends[2]


def _csp_pyramid(net: _Writer) -> int:
    """The pyramid inside a partial block; the number of its last layer."""
    net.conv(512, 1, act="mish")
    around = net.last
    net.route("-2")
    _alternate_same(net, 512)
    _pyramid(net)
    net.conv(512, 1, act="mish")
    net.conv(512, 3, act="mish")
    net.route(f"-1,{around}")
    net.conv(512, 1, act="mish")
    return net.last


def _alternate_same(net: _Writer, channels: int) -> None:
    net.conv(channels, 1, act="mish")
    net.conv(channels, 3, act="mish")
    net.conv(channels, 1, act="mish")


def _csp_join(net: _Writer, channels: int) -> int:
    """A partial block of two rounds; the number of its last layer."""
    net.conv(channels, 1, act="mish")
    net.conv(channels, 1, act="mish")
    around = net.last
    net.route("-2")
    for _ in range(2):
        net.conv(channels, 1, act="mish")
        net.conv(channels, 3, act="mish")
    net.route(f"-1,{around}")
    net.conv(channels, 1, act="mish")
    return net.last


def _csp_up(net: _Writer, channels: int, tap: int) -> int:
    net.conv(channels, 1, act="mish")
    net.upsample()
    net.route(str(tap))
    net.conv(channels, 1, act="mish")
    net.route("-1,-3")
    return _csp_join(net, channels)


def _csp_down(net: _Writer, channels: int, coarse: int) -> int:
    net.route("-4")
    net.conv(channels, 3, stride=2, act="mish")
    net.route(f"-1,{coarse}")
    return _csp_join(net, channels)


SPECS: dict[str, Callable[..., DarknetCfg]] = {
    "yolov4": yolov4_cfg,
    "yolov4-tiny": yolov4_tiny_cfg,
    "yolov4-tiny-3l": lambda num_classes, size=608: yolov4_tiny_cfg(
        num_classes, size=size, heads=3
    ),
    "yolov4-csp": yolov4_csp_cfg,
}


def built_in_cfg(name: str, num_classes: int, *, size: int | None = None) -> DarknetCfg:
    """The network file of a published detector, for any number of classes.

    Raises:
        SettingsError: no detector of that name.
    """
    if name not in SPECS:
        raise SettingsError("unknown network", expected=", ".join(SPECS), got=repr(name))
    return SPECS[name](num_classes) if size is None else SPECS[name](num_classes, size=size)
