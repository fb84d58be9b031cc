"""Pictures → labels with scores."""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from workers.predict.catalog import PredictModel
from workers.predict.parameters import Parameters
from workers.predict.tasks.labels import best_labels
from workers.predict.tasks.loading import load_network, load_part
from workers.predict.tasks.task import OnStep, Prepared, Task
from workers.runtime.pictures import read_picture
from workers.runtime.room import own_files
from workers.runtime.runner import InputRejected

SIDE = 2048  # pixels that are looked at; classifiers shrink pictures to a few hundred
DATA_URI = re.compile(r"data:image/[a-z+.-]+;base64,", re.IGNORECASE)


class ImageClassification(Task):
    """`[{label, score}, …]`, best first."""

    def __init__(self, model: PredictModel, device: str) -> None:
        self.device = device
        self._processor = load_part(AutoImageProcessor, model)
        self._network = load_network(AutoModelForImageClassification, model, device)

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        picture = read_picture(item, "image", SIDE) if isinstance(item, Path) else _inline(item, place)
        return Prepared(self._processor(picture, return_tensors="pt")["pixel_values"][0])

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        pixels = torch.stack(list(values)).to(self.device, self._network.dtype)
        logits = self._network(pixel_values=pixels).logits.float().cpu()
        return best_labels(logits, self._network.config, parameters.top_k)


def _inline(text: Any, place: str) -> Image.Image:
    """A picture that the JSON itself carries."""
    if not isinstance(text, str):
        raise InputRejected(f"Invalid {place}: this model takes pictures, as base64 or data URIs.")
    try:
        content = base64.b64decode(DATA_URI.sub("", text, count=1), validate=True)
    except (binascii.Error, ValueError):
        raise InputRejected(f"Invalid {place}: it is neither base64 nor a data URI of a picture.") from None
    with tempfile.NamedTemporaryFile(prefix="atelier-", dir=own_files()) as file:
        file.write(content)
        file.flush()
        return read_picture(Path(file.name), place, SIDE)
