"""Runs the decoders of strangers' files, each in a process of its own: see `decode_picture.py`, `decode_audio.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from workers.runtime.runner import InputRejected

REFUSED = 3  # the exit status by which every decoder says that its line on stderr is for the client
TOO_LONG = 4  # the same of a sound that lasts too long; a second line may have its seconds
# What a process needs to start; keys and addresses of the worker are none of a decoder's business. More threads than
# one would take more address space than it may have.
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "HOME", "TMPDIR")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class TooLong(InputRejected):
    """A sound that lasts longer than is taken; `seconds` is how long, if its header tells."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


def decoded(module: str, path: Path, argument: float, field: str, kind: str, patience: float) -> bytes:
    """What the decoder wrote, within `patience` seconds; `kind` is what the file should be, such as "a picture".

    Raises InputRejected that names the field.
    """
    command = [sys.executable, "-m", f"workers.runtime.{module}", str(path), str(argument)]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | ONE_THREAD
    try:
        done = subprocess.run(command, capture_output=True, timeout=patience, env=environment)
    except subprocess.TimeoutExpired:
        raise InputRejected(f"{field} takes too long to read as {kind}.") from None
    if done.returncode == REFUSED:
        raise InputRejected(f"{field}: {done.stderr.decode().strip()}")
    if done.returncode == TOO_LONG:
        said, known, *_ = done.stderr.decode().split("\n")
        raise TooLong(f"{field}: {said}", float(known) if known else None)
    if done.returncode:
        raise InputRejected(f"{field} cannot be read as {kind}.")
    return done.stdout
