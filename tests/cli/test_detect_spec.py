"""detect spec: TAO's specification to settings, and the import that it asks for."""

from __future__ import annotations

import json
from pathlib import Path

from cli_runs import Tilth
from coco_sets import write_coco_set

SPEC = """
yolov4_config { arch: "cspdarknet_tiny" loss_loc_weight: 1.0 activation: "relu" }
training_config { batch_size_per_gpu: 4 num_epochs: 2 }
augmentation_config { output_width: 64 output_height: 64 horizontal_flip: 0.5 saturation: 1.5
  exposure: 1.5 mosaic_prob: 0 mosaic_min_ratio: 0.2 }
dataset_config {
  type: "coco"
  data_sources { label_directory_path: "labels.json" image_directory_path: "photos" }
  target_class_mapping { key: "cat" value: "animal" }
  target_class_mapping { key: "dog" value: "animal" }
}
"""


def test_a_specification_becomes_settings_and_commands(tilth: Tilth, tmp_path: Path) -> None:
    Path("spec.txt").write_text(SPEC)
    ended = tilth("detect", "spec", "spec.txt", "--pictures", "20")
    assert ended.code == 0, ended.err
    for part in ("kept", "changed", "no counterpart", "settings: detect.toml", "next:"):
        assert part in ended.out
    again = tilth("detect", "spec", "spec.txt", "--json")
    assert (again.code, again.document["error"]["message"]) == (2, "the file is there already")
    document = tilth("detect", "spec", "spec.txt", "--overwrite", "--json").document
    dropped = [note for note in document["notes"] if note["outcome"] == "dropped"]
    assert [note["field"] for note in dropped] == ["yolov4_config.activation"]
    assert document["settings"]["epochs"] == 2


def test_the_commands_run(tilth: Tilth, tmp_path: Path) -> None:
    Path("spec.txt").write_text(SPEC)
    write_coco_set(tmp_path / "set", 4)
    for name in ("labels.json", "photos"):
        (tmp_path / "set" / name).rename(tmp_path / name)
    command = tilth("detect", "spec", "spec.txt", "--json").document["commands"][0].split()
    assert command[:2] == ["tilth", "import"]
    assert tilth("init", "field").code == 0
    imported = tilth(*command[1:], "--project", "field", "--json")
    assert imported.code == 0, imported.err
    info = tilth("info", "--project", "field", "--json").document
    assert info["annotations_by_class"] == {"animal": 4}


def test_an_error_in_the_specification_names_its_line(tilth: Tilth) -> None:
    Path("spec.txt").write_text("random_seed: 1\nyolov4_config {\n  archh: 'x'\n}\n")
    ended = tilth("detect", "spec", "spec.txt", "--json")
    error = json.loads(ended.out)["error"]
    assert (ended.code, error["where"], error["fix"]) == (2, "spec.txt:3", "did you mean 'arch'?")
    assert not Path("detect.toml").exists()
