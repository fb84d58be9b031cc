"""What a killed worker left on its disk goes when the next one starts; a living one keeps what is its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.children import make_room
from workers.runtime.room import WORDS_FOLDER

WORKER = "import os, workers.children as c; c.make_room(); print(os.environ['WORKER_LAST_WORDS'], flush=True); input()"
CHILD = "import workers.runtime.room as r; r.hold_room(); print('held', flush=True); input()"


def start(script: str, **variables: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_files_of_a_killed_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(WORDS_FOLDER, "")  # given back after the test
    worker, room = start(WORKER, TMPDIR=str(tmp_path))
    child, _ = start(CHILD, WORKER_LAST_WORDS=room)
    picture = Path(room, "7.files", "picture")
    picture.parent.mkdir()
    picture.write_bytes(b"somebody's")

    make_room()
    assert picture.exists(), "its worker lives"
    end(worker)
    make_room()
    assert picture.exists(), "its child still works on a job"
    end(child)
    make_room()
    assert not Path(room).exists()
    assert Path(os.environ[WORDS_FOLDER]).is_dir()
