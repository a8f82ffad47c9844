"""NVIDIA TAO's YOLOv4 specification, as settings of ours: what is kept, changed, and left out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tilth.data.atomic import atomic_writer
from tilth.errors import SettingsError
from tilth.recipes.detect_settings import settings as detect_settings
from tilth.recipes.tao_data import count_pictures, translate_data, translate_evaluation
from tilth.recipes.tao_fields import read_spec
from tilth.recipes.tao_model import translate_model
from tilth.recipes.tao_training import (
    translate_augmentation,
    translate_loss,
    translate_training,
)
from tilth.recipes.tao_translation import Note, Translation
from tilth.recipes.toml_text import toml_text

__all__ = ["import_spec", "translate_spec"]


def translate_spec(text: str, *, where: str, num_pictures: int | None = None) -> Translation:
    """A specification in our words; the settings are checked.

    Args:
        where: what to call the text in errors.
        num_pictures: for the training, where TAO counts in epochs and we in steps; None counts the
            label files where they are on this machine.

    Raises:
        SettingsError: the text cannot be read, or asks for something that is not here; with the
            line.
    """
    made = Translation(spec=read_spec(text, where=where))
    translate_model(made)
    translate_loss(made)
    translate_training(made, num_pictures or count_pictures(made))
    translate_augmentation(made)
    translate_data(made)
    translate_evaluation(made)
    made.notes += [
        Note(outcome="changed", field=name, line=line, text="written again: the last one counts")
        for name, line in made.spec.repeated.items()
    ]
    assert not made.unmentioned(), made.unmentioned()
    made.notes.sort(key=lambda note: note.line)
    values = {**made.settings}
    if made.network:  # its name is known when it is written
        values["model"] = {**values["model"], "cfg": "network.cfg"}
    detect_settings(values)
    return made


def import_spec(
    path: Path, *, output: Path, num_pictures: int | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Translate a file and write the settings, with a network file beside them where they need one.

    Raises:
        SettingsError: see `translate_spec`; or a file that is there and may not be replaced.
        StorageError: the disk refused.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError("the file cannot be read", where=str(path), got=got) from error
    made = translate_spec(text, where=str(path), num_pictures=num_pictures)
    network = output.with_suffix(".cfg") if made.network else None
    for target in (output, network):
        if target is not None and target.exists() and not overwrite:
            raise SettingsError(
                "the file is there already", where=str(target), fix="--overwrite, or another name"
            )
    if network is not None:
        # Paths in settings are relative to the project, wherever the settings lie.
        made.set("model.cfg", str(network.resolve()))
        with atomic_writer(network) as stream:
            stream.write(made.network.encode())
    made.commands.append(f"tilth detect train --settings {output}")
    with atomic_writer(output) as stream:
        stream.write(_settings_file(made, path).encode())
    return {
        "spec": path,
        "output": output,
        "network": network,
        "notes": [asdict(note) for note in made.notes],
        "commands": _in_working_order(made.commands),
        "settings": made.settings,
    }


def _in_working_order(commands: list[str]) -> list[str]:
    """Training comes before evaluation."""
    later = [command for command in commands if command.startswith("tilth detect evaluate")]
    return [command for command in commands if command not in later] + later


def _settings_file(made: Translation, path: Path) -> str:
    head = [f"From {path.name}, a specification of NVIDIA TAO. Without a counterpart here:"]
    head += [f"  {note.field}: {note.text}" for note in made.notes if note.outcome == "dropped"]
    return "".join(f"# {line}\n" for line in head) + "\n" + toml_text(made.settings)
