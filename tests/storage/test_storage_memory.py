"""A large object costs no more memory than a small one, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from swift_server import SwiftServer

MIB = 1024 * 1024
MOST_GROWTH = 40 * MIB

MEASURE = """
import sys
from shared.storage.interface import CHUNK
from shared.storage.open import open_storage

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def copy(key, count):
    stored = store.put(key, (bytes(CHUNK) for _ in range(count)), "application/octet-stream")
    assert sum(map(len, store.read(key))) == stored.size == count * CHUNK
    store.delete([key])

store = open_storage(sys.argv[1], sys.argv[2] or None)
copy("a/small", 1)
before = status("VmRSS")
copy("a/large", int(sys.argv[3]))
print(status("VmHWM") - before)
"""


def growth(url: str, endpoint_url: str, count: int) -> int:
    """Bytes by which a process grew at most while it wrote and read `count` MiB."""
    command = [sys.executable, "-c", MEASURE, url, endpoint_url, str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_local(tmp_path: Path) -> None:
    assert growth(tmp_path.as_uri(), "", 200) < MOST_GROWTH


@pytest.mark.s3
def test_s3(s3_url: str, swift: SwiftServer) -> None:
    assert growth(s3_url, swift.url, 64) < MOST_GROWTH
