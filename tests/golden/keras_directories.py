"""Record what Keras makes of folders: `keras_directories.json`, read by test_directories.py.

python tests/golden/keras_directories.py        (needs tensorflow)
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")

# Upper case, hidden files and folders, folders in folders, names that sort differently as numbers.
TREE = (
    *(f"neg/{number}.txt" for number in range(12)),
    *(f"pos/{number:03}.txt" for number in range(9)),
    "pos/more/a.txt",
    "pos/more-b/a.txt",
    "pos/more/Z.TXT",
    "pos/.hidden/x.txt",
    "pos/.txt",
    "pos/notes.md",
    "zero/only.txt",
    ".cache/never.txt",
    "loose.txt",
    *(
        f"{name}/{number}.{end}"
        for name in ("neg", "pos")
        for number, end in enumerate(("png", "jpg", "JPEG", "gif", "bmp", "webp"))
    ),
)
ENDINGS = {"text": (".txt",), "image": (".bmp", ".gif", ".jpeg", ".jpg", ".png")}
SPLITS = ((None, None), (0.2, "training"), (0.2, "validation"), (0.45, "training"))


def plant(root: Path) -> None:
    """The tree, each file holding its own path."""
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def calls() -> list[dict[str, Any]]:
    """Arguments of the calls that are recorded."""
    found = []
    for kind, shuffle, (split, subset) in itertools.product(ENDINGS, (False, True), SPLITS):
        for seed in (0, 7, 123456) if shuffle else (None,):
            base = {"kind": kind, "shuffle": shuffle, "seed": seed}
            found.append({**base, "validation_split": split, "subset": subset})
    found += [
        {"kind": "text", "shuffle": True, "seed": 3, "class_names": ["zero", "pos", "neg"]},
        {"kind": "text", "shuffle": True, "seed": 3, "class_names": ["pos", "neg"]},
        {"kind": "text", "shuffle": True, "seed": 3, "labels": None},
        {"kind": "text", "shuffle": False, "seed": None, "labels": None},
    ]
    return found


def keras_answer(root: Path, call: dict[str, Any]) -> dict[str, Any]:
    """Files, labels and class names of one call."""
    from keras.src.utils import dataset_utils

    files, labels, names = dataset_utils.index_directory(
        str(root),
        call.get("labels", "inferred"),
        formats=ENDINGS[call["kind"]],
        class_names=call.get("class_names"),
        shuffle=call["shuffle"],
        seed=call["seed"],
        verbose=False,
    )
    files, labels = dataset_utils.get_training_or_validation_split(
        files, labels, call.get("validation_split"), call.get("subset")
    )
    return {
        "files": [Path(file).relative_to(root).as_posix() for file in files],
        "labels": None if labels is None else [int(label) for label in labels],
        "class_names": names,
    }


def picture() -> Any:
    """uint8 [7, 11, 3] with no two rows or columns alike."""
    import numpy as np

    y, x, c = np.mgrid[:7, :11, :3]
    return ((y * 31 + x * x * 7 + c * 50) % 256).astype(np.uint8)


def keras_pixels() -> list[dict[str, Any]]:
    """The picture at other sizes, as `image_dataset_from_directory` resizes it."""
    import tensorflow as tf
    from keras.src.utils.image_dataset_utils import _load_image_tf

    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "a.png"))
        tf.io.write_file(path, tf.io.encode_png(picture()))
        for size, method, crop in itertools.product(
            ((4, 4), (9, 20), (14, 3)), ("bilinear", "nearest"), (False, True)
        ):
            values = _load_image_tf(path, size, 3, method, "channels_last", crop)
            found.append(
                {
                    "size": size,
                    "interpolation": method,
                    "crop": crop,
                    "values": [round(float(value), 3) for value in values.numpy().ravel()],
                }
            )
    return found


def main() -> None:
    import keras

    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder))
        answers = [{"call": call, **keras_answer(Path(folder), call)} for call in calls()]
    record = {"keras": keras.__version__, "answers": answers, "pixels": keras_pixels()}
    FILE.write_text(json.dumps(record, indent=None, separators=(",", ":")) + "\n")
    print(f"wrote {FILE} with Keras {keras.__version__}")


if __name__ == "__main__":
    main()
