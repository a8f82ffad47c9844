"""How far our forward pass and boxes are from OpenCV's reader of the same Darknet files.

    python benchmarks/darknet_parity.py --data ../shared/data

Random weights for the built-in networks, and the real ones of Yolo-Fastest. OpenCV adds 1e-6 to the
variance of a normalisation where Darknet adds 1e-5; both sides use 1e-6 here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from evidence import claim, write_result

from tilth.models.darknet import Darknet, read_cfg
from tilth.models.darknet_specs import built_in_cfg
from tilth.models.darknet_weights import load_weights, save_weights

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "models"))
from opencv_darknet import randomised, worst_difference_to_opencv

RANDOM = {"yolov4": 608, "yolov4-tiny": 416, "yolov4-tiny-3l": 416, "yolov4-csp": 512}
REAL = ("yolo-fastest-1.1", "yolo-fastest-1.1-xl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    folder = parser.parse_args().data / "weights" / "yolo-fastest"
    worst = {
        f"{name}, random weights, {size} px": random(name, size) for name, size in RANDOM.items()
    }
    for name in REAL:
        cfg, weights = folder / f"{name}.cfg", folder / f"{name}.weights"
        model = Darknet(read_cfg(cfg), batch_norm_eps=1e-6).eval()
        load_weights(model, weights)
        worst[f"{name}, 320 px"] = worst_difference_to_opencv(model, cfg, weights, 320)
    write_result(
        "darknet_parity",
        [
            claim(
                "opencv_parity_max_abs",
                max(worst.values()),
                unit="share of the picture, or probability",
                goal=1e-5,
                runs=len(worst),
                spread=(min(worst.values()), max(worst.values())),
                note="box centres and sizes, and objectness, of all heads; worst of "
                + ", ".join(worst),
            )
        ],
        data={"name": "random weights, and weights/yolo-fastest"},
        detail={"max_abs": worst},
    )


def random(name: str, size: int) -> float:
    cfg = built_in_cfg(name, 80, size=size)
    model = randomised(Darknet(cfg, batch_norm_eps=1e-6))
    with tempfile.TemporaryDirectory() as folder:
        cfg_path, weights = Path(folder) / "n.cfg", Path(folder) / "n.weights"
        cfg_path.write_text(cfg.text)
        save_weights(model, weights)
        return worst_difference_to_opencv(model, cfg_path, weights, size)


if __name__ == "__main__":
    main()
