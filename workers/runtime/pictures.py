"""Strangers' pictures, decoded elsewhere: see `decode_picture.py`."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image

from workers.runtime.decoding import decoded

PATIENCE = 30  # seconds
HEADER = struct.calcsize("<II")


def read_picture(path: Path, field: str, side: int) -> Image.Image:
    """The picture in RGB on white, upright, without metadata, at most `side` pixels a side.

    Raises InputRejected that names the field: not a PNG, JPEG or WebP, an animation, too large, or broken.
    """
    found = decoded("decode_picture", path, side, field, "a picture", PATIENCE)
    size = struct.unpack_from("<II", found)
    return Image.frombytes("RGB", size, found[HEADER:])
