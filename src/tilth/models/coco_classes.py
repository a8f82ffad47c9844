"""The 80 classes of COCO's detection task, in the order of Darknet's and most other weights.

Source: Lin et al., 2014, Microsoft COCO: Common Objects in Context, arXiv 1405.0312v3, appendix;
    the order is that of the category ids with the eleven unused ones left out.
Follows: the list of categories, and Darknet's own spellings of them -> `same_class`.
Symbols: none.
Differs: COCO's spelling; Darknet's coco.names has motorbike, aeroplane, sofa, pottedplant,
    diningtable and tvmonitor.
Checked by: `test_darknets_names_are_the_same_classes`
"""

__all__ = ["COCO_CLASSES", "same_class"]

COCO_CLASSES: tuple[str, ...] = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink"),
    *("refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier"),
    "toothbrush",
)

_SPELLINGS = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}


def same_class(name: str) -> str:
    """A class name in the spelling that names are compared in.

    >>> same_class("Motorbike"), same_class("dog")
    ('motorcycle', 'dog')
    """
    plain = name.strip().lower().replace("_", " ")
    return _SPELLINGS.get(plain, plain)
