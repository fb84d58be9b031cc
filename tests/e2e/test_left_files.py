"""A child that dies leaves nothing of its jobs on its worker's disk."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.forms import PNG
from tests.platform import Platform, wait_until


def test_inputs_of_a_dead_child(
    environment: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def left() -> list[Path]:
        return [path for path in tmp_path.rglob("picture") if path.read_bytes() == PNG]

    platform = Platform(environment | {"TMPDIR": str(tmp_path)}, tmp_path_factory.mktemp("logs"))
    try:
        platform.start()
        job = platform.submit("/toys/stamp", fail="crash", picture=base64.b64encode(PNG).decode())
        assert platform.finished(job)["error"]["code"] == "worker_lost"
        wait_until(lambda: not left(), 15, "its files to go")
        job = platform.submit("/toys/stamp", picture=base64.b64encode(PNG).decode())
        assert platform.finished(job)["status"] == "completed"
    finally:
        platform.close()
