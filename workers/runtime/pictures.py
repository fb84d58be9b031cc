"""Strangers' pictures, decoded elsewhere: see `decode_picture.py`."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

from PIL import Image

from workers.runtime.decode_picture import REFUSED
from workers.runtime.runner import InputRejected

PATIENCE = 30  # seconds
HEADER = struct.calcsize("<II")


def read_picture(path: Path, field: str, side: int) -> Image.Image:
    """The picture in RGB on white, upright, without metadata, at most `side` pixels a side.

    Raises InputRejected that names the field: not a PNG, JPEG or WebP, an animation, too large, or broken.
    """
    command = [sys.executable, "-m", "workers.runtime.decode_picture", str(path), str(side)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise InputRejected(f"{field} takes too long to read as a picture.") from None
    if done.returncode == REFUSED:
        raise InputRejected(f"{field}: {done.stderr.decode().strip()}")
    if done.returncode:
        raise InputRejected(f"{field} cannot be read as a picture.")
    size = struct.unpack_from("<II", done.stdout)
    return Image.frombytes("RGB", size, done.stdout[HEADER:])
