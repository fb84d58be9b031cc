"""What is too large to be held anywhere but on a disk."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.faults.history import History
from tests.faults.load import submitting
from tests.faults.rig import Rig
from tests.toys.runner import content

BLOCK = content(1, 4 * 2**20)
BLOCKS = 1200
SIZE = BLOCKS * len(BLOCK)  # 5 GB
ROOM = 64 * 2**20  # bytes that a gateway may grow by
TUS = {"Tus-Resumable": "1.0.0"}

pytestmark = pytest.mark.whole


def test_a_large_upload(rig: Rig, history: History, size: Callable[[int, int], int]) -> None:
    """A gateway is killed in the middle of an upload of 5 GB, and the other one takes the rest, in constant memory"""
    history.excused = {"lost"}
    limits = {"ATELIER_MAX_UPLOAD_BYTES": str(SIZE), "ATELIER_MAX_OWNER_UPLOAD_BYTES": str(SIZE)}
    rig.start("gateway-1", "gateway-2", **limits)
    first, second = rig.members("gateway")

    def breaks() -> None:
        rig.broke()
        first.signal(signal.SIGKILL, group=True)

    process = psutil.Process(second.pid)
    before, most = process.memory_info().rss, 0

    def looks() -> None:
        nonlocal most
        most = max(most, process.memory_info().rss)

    try:
        with submitting(history, size(10, 60), pause=0.3), httpx.Client(timeout=120, headers=TUS) as http:
            asked = http.post(f"{rig.url(first.name)}/uploads", headers={"Upload-Length": str(SIZE)})
            upload = f"/uploads/{asked.raise_for_status().json()['id']}"
            with suppress(httpx.TransportError):
                _send(http, rig.url(first.name) + upload, 0, {BLOCKS // 2: breaks})
            there = rig.url(second.name) + upload
            offset = int(http.head(there).headers["Upload-Offset"])
            assert SIZE // 4 < offset < SIZE
            _send(http, there, offset, dict.fromkeys(range(0, BLOCKS, 10), looks)).raise_for_status()
            told = http.get(there).json()
            assert (told["state"], told["sha256"]) == ("complete", _digest())
            http.delete(there).raise_for_status()
    finally:
        shutil.rmtree(rig.folder / "storage" / "uploads", ignore_errors=True)  # what the janitor would do later
    assert most - before < ROOM
    history.ended()
    history.verify()


def _send(http: httpx.Client, url: str, offset: int, moments: dict[int, Callable[[], None]]) -> httpx.Response:
    """What follows from this byte on; before blocks of these numbers something is done."""

    def blocks() -> Iterator[bytes]:
        for number in range(offset // len(BLOCK), BLOCKS):
            if number in moments:
                moments[number]()
            yield BLOCK[max(0, offset - number * len(BLOCK)) :]

    headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return http.patch(url, content=blocks(), headers=headers)


def _digest() -> str:
    digest = hashlib.sha256()
    for _ in range(BLOCKS):
        digest.update(BLOCK)
    return digest.hexdigest()
