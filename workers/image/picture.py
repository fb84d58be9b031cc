"""A picture as PNG bytes that carry everything needed to make it again."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

METADATA_KEY = "atelier"


def encode_png(picture: Image.Image, parameters: dict[str, Any]) -> bytes:
    """PNG with `parameters` as JSON in a text chunk; the same picture and parameters give the same bytes."""
    info = PngInfo()
    info.add_itxt(METADATA_KEY, json.dumps(parameters, ensure_ascii=False, sort_keys=True))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info, compress_level=1)  # a third of the default's time, some bytes more
    return buffer.getvalue()


def encode_preview(picture: Image.Image, side: int = 256) -> bytes:
    """A small JPEG, at most `side` pixels long."""
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()
