"""Runs toys. They fail as told: `crash` as the kernel's out-of-memory killer would have it, `segfault` in C, `exit`
behind Python's back, `hang_in_c` with a living interpreter around it, `hang_with_the_lock` without one; a `deaf` one
does not look whether it is to stop.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import random
import signal
import time
import warnings
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tests.toys.family import MAX_SECONDS, ListenInput, StampInput, ToyInput
from workers.runtime.audio import read_audio
from workers.runtime.runner import DeviceFault, InputRejected, Job, OutOfMemory


class ToyRunner:
    def setup(self, device: str, model: str) -> None:
        self._seen: set[str] = set()

    def run(self, request: BaseModel, job: Job) -> dict[str, Any]:
        assert isinstance(request, ToyInput)
        again = job.id in self._seen or job.claim.attempt > 1
        self._seen.add(job.id)
        if request.fail == "tell":
            _tell(request.say)
        if not (request.mended and Path(request.mended).exists()):
            _fail(request.fail, again)
        ballast = bytearray(b"x") * request.allocate  # written to, hence really there
        while request.until and not Path(request.until).exists():
            time.sleep(0.02)
            job.progress(0, request.steps)
        for step in range(request.steps):
            time.sleep(request.step_seconds)
            if request.fail == "deaf":
                continue
            job.progress(step + 1, request.steps, lambda: b"\xff\xd8preview")
        if isinstance(request, StampInput):
            picture = job.inputs["picture"].read_bytes()
            job.save("stamp.json", stamp(request, picture), "application/json")
            job.save("copy.bin", picture, "application/octet-stream")
        if isinstance(request, ListenInput):
            job.save("sound.json", _heard(job), "application/json")
        del ballast
        head = mark(job.id, job.claim.attempt) if request.marked else b""
        for number in range(request.files):
            made = head + content(request.seed + number, request.size)
            job.save(f"file_{number}.bin", made, "application/octet-stream")
        return {"said": request.say, "steps": request.steps, "files": request.files}

    def status(self) -> dict[str, Any]:
        return {"loaded": True}

    def close(self) -> None:
        pass


def content(seed: int, size: int) -> bytes:
    """The bytes that a toy makes: the same everywhere for the same seed."""
    return random.Random(seed).randbytes(size)


def stamp(request: StampInput, picture: bytes) -> bytes:
    """What a stamp tells of what the runner saw."""
    return json.dumps({"sha256": hashlib.sha256(picture).hexdigest(), "request": request.model_dump()}).encode()


def mark(job_id: str, attempt: int) -> bytes:
    """The first line of a marked file."""
    return f"{job_id} {attempt}\n".encode()


def _heard(job: Job) -> bytes:
    sound = read_audio(job.inputs["sound"], "sound", MAX_SECONDS)
    loudness = float((sound.samples**2).mean() ** 0.5)
    return json.dumps({"rate": sound.rate, "seconds": sound.seconds, "loudness": loudness}).encode()


def _tell(secret: str) -> None:
    """Say it in all the ways in which libraries say things."""
    library = logging.getLogger("somebody.elses")
    library.debug("asked with %s and %r", secret, {"headers": [("authorization", secret)]})
    library.info(secret, extra={"said": {"deep": [secret]}})
    warnings.warn(secret, stacklevel=1)
    try:
        raise ValueError(secret)
    except ValueError as error:
        raise RuntimeError(f"it failed: {secret}") from error


def _fail(kind: str, again: bool) -> None:
    if kind == "input":
        raise InputRejected("This toy was told to refuse its input.")
    if kind == "bug" or (kind == "once" and not again):
        raise RuntimeError("a secret that no client may see")
    if kind == "memory":
        raise OutOfMemory("The device has too little memory for this request.")
    if kind == "crash" or (kind == "crash_once" and not again):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "fault":
        raise DeviceFault("This toy's device broke down.")
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "exit":
        os._exit(7)
    if kind == "hang":
        time.sleep(3600)
    if kind == "hang_in_c":
        ctypes.CDLL(None).sleep(3600)
    if kind == "hang_with_the_lock":
        ctypes.PyDLL(None).sleep(3600)
