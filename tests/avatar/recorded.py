"""Runs the avatar family's runner without the platform."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from workers.avatar.runner import AvatarRunner
from workers.avatar.spec import AVATAR


class RecordedJob:
    """A job that keeps what the runner saves and reports."""

    id = "job"
    wants_preview = False

    def __init__(self, operation: str, inputs: Mapping[str, Path]) -> None:
        self.operation, self.inputs = operation, inputs
        self.steps: list[tuple[int, int]] = []
        self.saved: dict[str, bytes] = {}
        self.media_types: dict[str, str] = {}

    def progress(self, step: int, total: int, preview: Any = None) -> None:
        self.steps.append((step, total))

    def save(self, name: str, content: bytes, media_type: str) -> None:
        self.saved[name], self.media_types[name] = content, media_type


class Studio:
    """Runs requests as a client would write them."""

    def __init__(self, runner: AvatarRunner) -> None:
        self.runner = runner

    def run(self, name: str, style_image: Path | None = None, **body: Any) -> tuple[RecordedJob, dict[str, Any]]:
        """The job and its output, of the operation `avatar.NAME`."""
        operation = next(one for one in AVATAR.operations if one.name == f"avatar.{name}")
        inputs = {"style_image": style_image} if style_image else {}
        if style_image:
            body["style_image"] = {"name": "style", "media_type": "image/png", "size": 1, "sha256": "0" * 64}
        job = RecordedJob(operation.name, inputs)
        return job, self.runner.run(operation.resolve(operation.input.model_validate(body)), job)

    def views(self, name: str, style_image: Path | None = None, **body: Any) -> torch.Tensor:
        """The pictures [V, 3, H, W], 0 to 255."""
        job, output = self.run(name, style_image, **body)
        return torch.stack([pixels(job.saved[view]) for view in output["views"]])

    def view(self, name: str = "generate", style_image: Path | None = None, **body: Any) -> torch.Tensor:
        """The only picture [3, H, W]."""
        (picture,) = self.views(name, style_image, **body)
        return picture


def pixels(content: bytes) -> torch.Tensor:
    """A picture file → [3, H, W], 0 to 255."""
    with Image.open(io.BytesIO(content)) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float()


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean absolute difference, of 255."""
    return (one - other).abs().mean().item()
