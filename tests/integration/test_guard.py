"""What a worker's parent does for its children, with a pool that is not Celery's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from shared.database import open_database
from shared.family import ModelCard
from shared.ids import new_id
from shared.settings import Settings
from tests.platform import wait_until
from workers import parent
from workers.child import child_name, worker_name
from workers.families import families
from workers.parent import Guard
from workers.runtime.room import ROOM, WORDS_FOLDER


class Process:
    """A child as Celery's pool knows it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.pid = self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def child() -> Iterator[Process]:
    process = Process()
    yield process
    process.end()


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    names = ("database_url", "redis_url", "storage_url")
    return Settings(**{name: environment[name.upper()] for name in names})


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_database(settings.database_url)
    with engine.begin() as db:
        db.execute(text("TRUNCATE jobs, workers CASCADE"))
    yield engine
    engine.dispose()


@pytest.fixture
def guard(settings: Settings, child: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """A thread that looks often; not started."""
    monkeypatch.setenv(WORDS_FOLDER, str(tmp_path / f"{ROOM}now"))
    monkeypatch.setattr(parent, "REPORT_SECONDS", 0.1)
    monkeypatch.setattr(parent, "LOOK_SECONDS", 0.05)
    celerys: Any = SimpleNamespace(pool=SimpleNamespace(_pool=SimpleNamespace(_pool=[child])))
    guard = Guard(settings, celerys)
    yield guard
    if guard.is_alive():
        guard.leave()


def add(engine: Engine, holder: str, lease: str = "-1 s") -> None:
    """A running job."""
    insert = """INSERT INTO jobs (id, owner, family, operation, input, turn, state, attempt, started_at,
            attempt_started_at, lease_owner, lease_expires_at)
        VALUES (:id, 'ann', 'toy', 'toy.play', '{}', 1, 'running', 1, now(), now(), :holder, now() + :lease)"""
    with engine.begin() as db:
        db.execute(
            text(insert.replace(":lease", "CAST(:lease AS interval)")),
            {"id": new_id(), "holder": holder, "lease": lease},
        )


def reported(engine: Engine) -> list[str]:
    with engine.begin() as db:
        return list(db.execute(text("SELECT name FROM workers")).scalars())


def states(engine: Engine) -> list[str]:
    with engine.begin() as db:
        return list(db.execute(text("SELECT state FROM jobs ORDER BY id")).scalars())


def test_a_child_is_not_taken_for_one_of_an_earlier_run(
    guard: Guard, child: Process, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container that starts again has the same host name, and its processes have the same pids."""
    now = child_name(os.getpid(), child.pid)
    monkeypatch.setenv(WORDS_FOLDER, str(tmp_path / f"{ROOM}before"))
    before = child_name(os.getpid(), child.pid)
    monkeypatch.setenv(WORDS_FOLDER, str(tmp_path / f"{ROOM}now"))
    add(engine, before)
    add(engine, now, "60 s")
    guard.start()
    wait_until(lambda: states(engine) == ["queued", "running"], 10, "the first to be moved on")
    assert child.is_alive()


def test_models_that_cannot_be_looked_at(guard: Guard, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One family's folder cannot be read: the worker enters the fleet with all others, and looks on."""

    def unreadable() -> tuple[ModelCard, ...]:
        raise PermissionError(13, "Permission denied")

    toy = families()["toy"]
    served = {"toy": toy, "broken": replace(toy, name="broken", discover=unreadable)}
    monkeypatch.setattr(parent, "served_families", lambda: served)
    guard.start()
    wait_until(lambda: reported(engine), 10, "the worker's first report")
    add(engine, f"{worker_name(os.getpid())}/before.1")
    wait_until(lambda: states(engine) == ["queued"], 10, "the lost job to be moved on")


def test_a_worker_that_was_dropped_from_the_fleet(guard: Guard, engine: Engine) -> None:
    """Postgres was away for so long that the janitor took the worker for gone: it enters anew, with its models."""
    guard.start()
    wait_until(lambda: reported(engine), 10, "the worker's first report")
    with engine.begin() as db:
        db.execute(text("TRUNCATE models"))
        db.execute(text("DELETE FROM workers"))
    wait_until(lambda: reported(engine), 10, "the worker in the fleet")
    with engine.begin() as db:
        assert "toy" in set(db.execute(text("SELECT family FROM models")).scalars())


def test_a_child_that_keeps_a_lease_lives(guard: Guard, child: Process, engine: Engine) -> None:
    """One that works, and has a job besides that it does not know of."""
    for lease in ("-1 s", "60 s"):
        add(engine, child_name(os.getpid(), child.pid), lease)
    guard.start()
    wait_until(lambda: reported(engine), 10, "the worker's first report")
    time.sleep(1)
    assert child.is_alive()
    child.end()
    wait_until(lambda: states(engine) == ["queued", "queued"], 10, "both to be moved on")
