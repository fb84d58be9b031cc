"""The record of a training: one JSON object a line, only ever appended to, and its curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, MARGIN = 960, 200, 24  # of a curve's panel, pixels
INK, PAPER, CURVE = (40, 40, 40), (255, 255, 255), (31, 96, 176)


class TrainingLog:
    """Appends to `path`. Every line is on the disk when the call returns; a torn last line of a crash is closed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n"):
            self._append("\n")

    def write(self, step: int, losses: dict[str, float], learning_rate: float, seconds: float) -> None:
        """The unweighted losses of step number `step` (the first is 1), and how long it took."""
        record = {"step": step, "learning_rate": learning_rate, "seconds": round(seconds, 4), "losses": losses}
        self._append(json.dumps(record, allow_nan=False) + "\n")

    def note(self, step: int, text: str) -> None:
        """A sentence that a reader of the curves should know."""
        self._append(json.dumps({"step": step, "note": text}) + "\n")

    def _append(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The records, with notes where they were written.

    A training that was resumed repeats steps; the later lines count, so that steps only ever rise. Torn lines are left
    out. FileNotFoundError.
    """
    records: list[dict[str, Any]] = []
    last = -1
    for line in Path(path).read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "note" not in record:
            if record["step"] <= last:
                records = [old for old in records if "note" in old or old["step"] < record["step"]]
            last = record["step"]
        records.append(record)
    return records


def plot_log(path: str | Path, png: str | Path) -> None:
    """Draw each loss and the learning rate over the steps, one panel below another; ValueError for an empty log."""
    from PIL import Image, ImageDraw

    curves: dict[str, list[tuple[int, float]]] = {}
    for record in read_log(path):
        if "note" not in record:
            for name, value in {**record["losses"], "learning_rate": record["learning_rate"]}.items():
                curves.setdefault(name, []).append((record["step"], value))
    if not curves:
        raise ValueError(f"{path} has no step yet")
    steps = [step for points in curves.values() for step, _ in points]
    first, last = min(steps), max(steps)
    picture = Image.new("RGB", (WIDTH, HEIGHT * len(curves)), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, (name, points) in enumerate(curves.items()):
        top, bottom = number * HEIGHT + MARGIN, (number + 1) * HEIGHT - MARGIN
        low, high = min(value for _, value in points), max(value for _, value in points)
        places = [
            (
                MARGIN + (step - first) / max(last - first, 1) * (WIDTH - 2 * MARGIN),
                bottom - (value - low) / ((high - low) or 1) * (bottom - top),
            )
            for step, value in points
        ]
        draw.rectangle((MARGIN, top, WIDTH - MARGIN, bottom), outline=(200, 200, 200))
        draw.text((MARGIN, top - 18), f"{name}: {low:.4g} to {high:.4g}, last {points[-1][1]:.4g}", fill=INK)
        draw.text((MARGIN, bottom + 4), f"step {first} to {last}", fill=INK)
        draw.line(places if len(places) > 1 else places * 2, fill=CURVE, width=2)
    picture.save(png, "PNG")
