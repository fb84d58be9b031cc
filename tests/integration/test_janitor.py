"""The janitor keeps up with what ends, and one file that cannot be removed keeps no other one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

import shared.database
from services.coordinator.janitor import Janitor
from shared.database import open_database
from shared.ids import new_id
from shared.jobs.artifacts import attempt_prefix
from shared.jobs.attempts import Attempt
from shared.jobs.claims import claim
from shared.settings import Settings
from shared.storage.interface import Storage, StorageError
from shared.storage.open import open_storage


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return Settings(
        database_url=environment["DATABASE_URL"],
        redis_url=environment["REDIS_URL"],
        storage_url=environment["STORAGE_URL"],
        purge_grace_seconds=0.001,
    )


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_database(settings.database_url)
    with engine.begin() as db:
        db.execute(text("TRUNCATE jobs CASCADE"))
    yield engine
    engine.dispose()


def ended(engine: Engine, storage: Storage, number: int) -> list[UUID]:
    """Completed jobs whose results are past their time, each with a file."""
    jobs = [new_id() for _ in range(number)]
    with engine.begin() as db:
        for job in jobs:
            db.execute(
                text("""INSERT INTO jobs (id, owner, family, operation, input, turn)
                VALUES (:id, 'ann', 'toy', 'toy.play', '{}', 1)"""),
                {"id": job},
            )
            claimed = claim(db, job, "w/1", 60)
            assert claimed is not None
            storage.put(f"{attempt_prefix('ann', job, 1)}0", [b"made"], "text/plain")
            assert Attempt(job, 1, "w/1").publish(db, {}, [], -1)
    return jobs


def left(engine: Engine) -> int:
    with engine.connect() as db:
        return int(db.execute(text("SELECT count(*) FROM jobs WHERE purged IS DISTINCT FROM 'done'")).scalar_one())


class Stubborn:
    """A store in which the files of one job stay."""

    def __init__(self, storage: Storage, job: UUID) -> None:
        self._storage, self._job = storage, str(job)

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        if any(self._job in key for key in keys):
            raise StorageError("it is locked")
        self._storage.delete(keys)


def test_a_round_removes_all_that_is_due(engine: Engine, settings: Settings) -> None:
    storage = open_storage(settings.storage_url)
    ended(engine, storage, 620)
    janitor = Janitor(settings, engine, storage)
    janitor.round()
    assert left(engine) == 0


def test_one_that_cannot_be_removed_keeps_no_other(engine: Engine, settings: Settings) -> None:
    storage = open_storage(settings.storage_url)
    jobs = ended(engine, storage, 5)
    janitor = Janitor(settings, engine, Stubborn(storage, jobs[0]))  # type: ignore[arg-type]
    janitor.round()
    assert left(engine) == 1


def test_a_slow_store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes for all of them is more than Postgres lets a transaction stand still, here 2 s for its 30 s."""
    monkeypatch.setitem(shared.database.SESSION, "idle_in_transaction_session_timeout", "2000")
    engine = open_database(settings.database_url)
    storage = open_storage(settings.storage_url)
    ended(engine, storage, 40)
    found = storage.list

    def slow(prefix: str) -> Iterator[str]:
        time.sleep(0.08)
        return found(prefix)

    monkeypatch.setattr(storage, "list", slow)
    Janitor(settings, engine, storage).round()
    assert left(engine) == 0
    engine.dispose()
