"""What an arm found in a picture, drawn over it.

The photograph stands once in the page, as a definition; every overlay refers to it by its id, so
four arms on twelve pictures cost twelve photographs.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from markupsafe import Markup

from tilth.recipes.experiment import Arm, ExamplePicture
from tilth.recipes.report.svg import polyline, tag

__all__ = ["Tally", "overlay", "picture_definition", "sorted_by_change", "tally"]


class Tally(tuple[int, int, int]):
    """Labels found, false detections, labels missed."""

    @property
    def balance(self) -> int:
        """Found less false less missed: higher is better."""
        found, false, missed = self
        return found - false - missed


def tally(picture: ExamplePicture, arm: str) -> Tally:
    """Count what ``arm`` did with ``picture``."""
    boxes = picture.predictions.get(arm, [])
    found = sum(box.state == "true positive" for box in boxes)
    return Tally((found, len(boxes) - found, len(picture.missed.get(arm, []))))


def sorted_by_change(
    pictures: Sequence[ExamplePicture], arms: Sequence[Arm]
) -> list[ExamplePicture]:
    """Pictures on which the first and the last arm differ most come first, gains before losses."""
    if not arms:
        return list(pictures)
    first, last = arms[0].name, arms[-1].name

    def key(picture: ExamplePicture) -> tuple[int, int, str]:
        change = tally(picture, last).balance - tally(picture, first).balance
        return -abs(change), -change, picture.name

    return sorted(pictures, key=key)


def picture_definition(picture: ExamplePicture, identifier: str) -> Markup:
    """The photograph itself, to be shown by `overlay`."""
    data = base64.b64encode(picture.jpeg).decode("ascii")
    return tag(
        "image",
        id=identifier,
        href=f"data:image/jpeg;base64,{data}",
        width=picture.width,
        height=picture.height,
        preserveAspectRatio="none",
    )


def overlay(picture: ExamplePicture, arm: Arm, identifier: str) -> Markup:
    """The photograph ``identifier`` with labels, detections and misses of ``arm``."""
    text = max(picture.width, picture.height) / 24
    parts = [tag("use", href=f"#{identifier}")]
    for row in picture.missed.get(arm.name, []):
        truth = picture.truth[row]
        tip = f"missed: {truth.class_name}"
        parts += _outlined(truth.box_xyxy, "missed", tip)
    # The surest detection is drawn last, on top of the guesses.
    for box in reversed(picture.predictions.get(arm.name, [])):
        style = "found" if box.state == "true positive" else "false"
        tip = f"{box.state}: {box.class_name}, score {box.score:.2f}"
        parts += _outlined(box.box_xyxy, style, tip)
        parts.append(_score(box.box_xyxy, box.score, style, text))
    found, false, missed = tally(picture, arm.name)
    label = f"{picture.name}, {arm.label}: {found} found, {false} false, {missed} missed"
    return tag(
        "svg",
        *parts,
        class_="picture",
        viewBox=f"0 0 {picture.width} {picture.height}",
        role="img",
        aria_label=label,
    )


def _outlined(box_xyxy: Sequence[float], style: str, tip: str) -> list[Markup]:
    x0, y0, x1, y1 = box_xyxy
    d = polyline([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) + "Z"
    # A dark line below the coloured one keeps the box visible on any photograph.
    return [tag("path", class_="halo", d=d), tag("path", class_=f"box {style}", d=d, title=tip)]


def _score(box_xyxy: Sequence[float], score: float, style: str, size: float) -> Markup:
    x0, y0 = box_xyxy[:2]
    place = {"x": x0 + size / 5, "y": max(y0, 0.0) + size}
    text = f"{100 * score:.0f}"
    return tag("text", text, class_=f"score {style}", font_size=size, **place)
