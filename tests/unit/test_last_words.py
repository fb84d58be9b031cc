"""What a child says last, as it and its parent find it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.contextvars import bound_contextvars

from shared.jobs.records import LONGEST_LINE, MAX_LINES
from tests.conftest import ROOT
from workers.runtime import memory_peak
from workers.runtime.last_words import LARGEST, LastWords, begun_by, lines_of

SECRET = "sk_abcdefghZq9vXk3wPz7mZq9vXk3wPz7mZq9vXk3wPz7m"
CHILD = """
import ctypes, logging, sys
from pathlib import Path
from workers.runtime.last_words import LastWords

words = LastWords(Path(sys.argv[1]))
logging.getLogger().addHandler(words)
words.begin("cpu")
for number in range(100):
    logging.getLogger("a.library").warning("line %d of somebody's with password=hidden", number)
ctypes.string_at(0)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "words"


@pytest.fixture
def words(path: Path) -> Iterator[LastWords]:
    yield (words := LastWords(path))
    words.close()


@pytest.fixture
def log(words: LastWords) -> Iterator[logging.Logger]:
    logger = logging.getLogger("a.library.of.the.test")
    logger.addHandler(words)
    logger.propagate = False
    yield logger
    logger.removeHandler(words)
    logger.propagate = True


def test_a_segfault_leaves_the_last_lines_and_the_place(path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(path)]
    died = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert died.returncode == -11
    lines = lines_of(path)
    assert len(lines) <= MAX_LINES
    crash = next(n for n, line in enumerate(lines) if line.startswith("Fatal Python error: Segmentation fault"))
    assert "line 99 of somebody's" in lines[crash - 1]
    assert any("string_at" in line for line in lines[crash:])
    assert "hidden" not in "".join(lines)
    assert begun_by(path) == (1, "cpu")


def test_lines_are_redacted_short_few_and_text(words: LastWords, log: logging.Logger, path: Path) -> None:
    words.begin("cpu")
    for _ in range(60):
        log.warning("the key is %s", SECRET)
    log.warning("x" * 10_000)
    words.handle(log.makeRecord(log.name, logging.WARNING, "", 0, "half a pair \udc80, a nul \0", (), None))
    for lines in (words.of("any"), lines_of(path)):
        assert len(lines) == MAX_LINES
        assert max(len(line) for line in lines) <= LONGEST_LINE
        said = "\n".join(lines)
        assert SECRET not in said
        assert "sk_abcdefgh[redacted]" in said
        assert said.encode().count(b"\0") == 0


def test_an_attempt_begins_with_nothing_and_hears_nothing_of_its_neighbours(
    words: LastWords, log: logging.Logger, path: Path
) -> None:
    log.warning("before")
    assert begun_by(path) is None
    words.begin("cpu")
    with bound_contextvars(job="one"):
        log.warning("of one")
    with bound_contextvars(job="two"):
        log.warning("of two")
    log.warning("of all")
    assert [line.split("]")[1].split()[:2] for line in words.of("one")] == [["of", "one"], ["of", "all"]]
    assert len(lines_of(path)) == 3, "who finds it dead finds all"
    words.begin("cpu")
    assert (words.of("one"), lines_of(path), begun_by(path)) == ((), (), (2, "cpu"))


def test_the_file_stays_small(words: LastWords, log: logging.Logger, path: Path) -> None:
    words.begin("cpu")
    for number in range(2 * LARGEST // 400):
        log.warning("%d %s", number, "y" * 400)
    assert path.stat().st_size < LARGEST + 2 * LONGEST_LINE
    assert f"] {number} " in lines_of(path)[-1]


@pytest.mark.skipif(memory_peak.peak() is None, reason="this kernel does not let a process forget its peak")
def test_a_peak_of_memory_is_forgotten() -> None:
    memory_peak.forget()
    before = memory_peak.peak()
    assert before is not None
    ballast = bytearray(b"x") * 100_000_000
    del ballast
    peak = memory_peak.peak()
    assert peak is not None
    assert peak > before + 90_000_000
    memory_peak.forget()
    after = memory_peak.peak()
    assert after is not None
    assert after < peak - 90_000_000
    assert memory_peak.peak_of(os.getpid()) == pytest.approx(memory_peak.peak(), abs=10_000_000)
    assert memory_peak.peak_of(2**22 + 1) is None, "nobody has this pid"
