"""What every attempt leaves, by each way of ending, on a real Postgres; who is poison; which files are nobody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from services.coordinator.janitor import Janitor
from shared.database import open_database
from shared.ids import new_id
from shared.jobs.artifacts import attempt_prefix
from shared.jobs.attempts import Attempt, Backoff
from shared.jobs.claims import claim
from shared.jobs.records import Seen
from shared.jobs.upkeep import Budget, reap_expired, reap_worker
from shared.settings import Settings, get_settings
from shared.storage.open import open_storage
from tests.conftest import ROOT

WORKER = "host-1/2"
SEEN = Seen("cuda:0", 300_000_000, 200_000_000, lines=("it began", "it went on"))
TOLD = {"device": "cuda:0", "memory_bytes": 300_000_000, "gpu_memory_bytes": 200_000_000}
LINES = {"lines": ["it began", "it went on"]}
ERROR = {"code": "gpu_oom", "message": "Too little memory.", "attempt": 1, "worker": WORKER}
TOLD_ERROR = {"error": {"code": "gpu_oom", "message": "Too little memory."}}
LOST = {"error": {"code": "worker_lost", "message": "The worker was lost while it ran this job."}, "counted": True}
BUDGET = Budget(max_crashes=6, max_failures=6, pause=0, ttl=60)
AGAIN, NO_MORE = Backoff(3, 0, 0), Backoff(1, 0, 0)


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url, pool_size=2)
    yield engine
    engine.dispose()


@pytest.fixture
def job(engine: Engine) -> UUID:
    """A queued job; no other."""
    job_id = new_id()
    with engine.begin() as db:
        db.execute(text("TRUNCATE jobs, usage_now, usage_days, workers CASCADE"))
        db.execute(
            text("""INSERT INTO jobs (id, owner, family, operation, input, turn)
            VALUES (:id, 'ann', 'toy', 'toy.play', '{}', 1)"""),
            {"id": job_id},
        )
    return job_id


def take(db: Connection, job: UUID, worker: str = WORKER) -> Attempt:
    claimed = claim(db, job, worker, 60)
    assert claimed is not None
    return Attempt(job, claimed.attempt, worker)


def records(engine: Engine, job: UUID) -> list[dict[str, Any]]:
    with engine.connect() as db:
        found: list[dict[str, Any]] = db.execute(text("SELECT attempts FROM jobs WHERE id = :id"), {"id": job}).scalar()
    return found


def cancelled(db: Connection) -> None:
    db.execute(text("UPDATE jobs SET cancel_requested_at = now()"))


def silent(db: Connection) -> None:
    db.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE state = 'running'"))


def reaped(db: Connection) -> None:
    silent(db)
    assert len(reap_expired(db, BUDGET, 0.01, {"toy": 60})) == 1


DEAD = Seen(memory_bytes=4096, signal=11, lines=("Fatal Python error: Segmentation fault",))
ENDINGS: dict[str, tuple[Callable[[Connection, Attempt], object], dict[str, Any]]] = {
    "published": (lambda db, a: a.publish(db, {}, [], 60, SEEN), {"outcome": "completed"} | TOLD | LINES),
    "failed": (
        lambda db, a: a.stop(db, "failed", ERROR, 60, SEEN),
        {"outcome": "failed"} | TOLD_ERROR | TOLD | LINES,
    ),
    "expired": (lambda db, a: a.stop(db, "expired", ERROR, 60), {"outcome": "expired"} | TOLD_ERROR),
    "cancelled": (lambda db, a: a.stop(db, "cancelled", None, 60), {"outcome": "cancelled", "error": None}),
    "failed when it was cancelled": (
        lambda db, a: (cancelled(db), a.stop(db, "failed", ERROR, 60)),
        {"outcome": "cancelled", "error": None},
    ),
    "to be tried again": (
        lambda db, a: a.retry(db, ERROR, AGAIN, 60, SEEN),
        {"outcome": "retried"} | TOLD_ERROR | TOLD | LINES,
    ),
    "tried often enough": (lambda db, a: a.retry(db, ERROR, NO_MORE, 60), {"outcome": "failed"} | TOLD_ERROR),
    "tried when it was cancelled": (
        lambda db, a: (cancelled(db), a.retry(db, ERROR, AGAIN, 60)),
        {"outcome": "cancelled"} | TOLD_ERROR,
    ),
    "drained": (lambda db, a: a.drain(db, 60, SEEN), {"outcome": "drained"} | TOLD | LINES),
    "drained when it was cancelled": (lambda db, a: (cancelled(db), a.drain(db, 60)), {"outcome": "cancelled"}),
    "seen to die": (
        lambda db, a: reap_worker(db, BUDGET, WORKER, DEAD),
        {"outcome": "lost", "device": "cpu", "memory_bytes": 4096, "signal": 11} | LOST | {"lines": [*DEAD.lines]},
    ),
    "silent for a lease": (lambda db, _: reaped(db), {"outcome": "lost", "device": "cpu"} | LOST),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_every_end_leaves_one_record(engine: Engine, job: UUID, how: str) -> None:
    end, expected = ENDINGS[how]
    with engine.begin() as db:
        db.execute(text("INSERT INTO workers (name, families, device, state) VALUES ('host-1', '{}', 'cpu', 'ready')"))
        attempt = take(db, job)
    with engine.begin() as db:
        end(db, attempt)
        row = db.execute(text("SELECT to_jsonb(attempt_started_at), to_jsonb(now()), finished_at, now() FROM jobs"))
        started, now, finished, moment = row.one()
    assert finished in (None, moment)
    told = {"number": 1, "worker": WORKER, "batch_size": 1, "started_at": started, "ended_at": now}
    assert records(engine, job) == [told | expected]
    with engine.begin() as db:
        assert attempt.stop(db, "failed", ERROR, 60) is None
    assert len(records(engine, job)) == 1, "a zombie leaves none"


def test_records_are_in_order(engine: Engine, job: UUID) -> None:
    with engine.begin() as db:
        take(db, job).drain(db, 60)
        take(db, job).retry(db, ERROR, AGAIN, 60)
    with engine.begin() as db:
        db.execute(text("UPDATE jobs SET run_after = now()"))
        take(db, job)
        reap_worker(db, BUDGET, WORKER)
        take(db, job).publish(db, {}, [], 60)
    told = [(entry["number"], entry["outcome"]) for entry in records(engine, job)]
    assert told == [(1, "drained"), (2, "retried"), (3, "lost"), (4, "completed")]


def test_nothing_is_invented_of_a_worker_that_never_told_its_device(engine: Engine, job: UUID) -> None:
    with engine.begin() as db:
        db.execute(text("INSERT INTO workers (name, families, device, state) VALUES ('host-1', '{}', 'auto', 'ready')"))
        take(db, job)
        reaped(db)
    (entry,) = records(engine, job)
    assert entry["device"] is None
    assert not {"memory_bytes", "gpu_memory_bytes", "exit_code", "signal", "lines"} & set(entry)


@pytest.mark.parametrize(
    ("workers", "states"),
    [
        (["a-1/10", "b-1/20"], ["queued", "failed"]),
        (["a-1/10", "a-1/11", "b-1/20"], ["queued", "queued", "failed"]),
        (["a-1/10", "a-1/11", "a-1/12", "a-1/13"], ["queued", "queued", "queued", "failed"]),
    ],
    ids=["two workers", "two workers at last", "one worker, until its crashes are used up"],
)
def test_a_job_that_crashes_on_two_workers_is_poison(
    engine: Engine, job: UUID, workers: list[str], states: list[str]
) -> None:
    found = []
    for worker in workers:
        with engine.begin() as db:
            take(db, job, worker)
            found += [moved.state for moved in reap_worker(db, Budget(4, 6, 0, 60), worker)]
    assert found == states
    assert [entry["worker"] for entry in records(engine, job)] == workers


def test_only_what_counts_as_a_crash_makes_poison(engine: Engine, job: UUID) -> None:
    with engine.begin() as db:
        take(db, job, "a-1/10").drain(db, 60)
        take(db, job, "b-1/20")
        db.execute(text("UPDATE jobs SET batch_size = 3"))  # nobody knows which of the three it was
        assert [moved.state for moved in reap_worker(db, BUDGET, "b-1/20")] == ["queued"]
        take(db, job, "c-1/30")
        assert [moved.state for moved in reap_worker(db, BUDGET, "c-1/30")] == ["queued"]
    assert [entry.get("counted") for entry in records(engine, job)] == [None, False, True]


def test_files_of_a_first_attempt_that_lost_are_collected(
    engine: Engine, job: UUID, environment: dict[str, str]
) -> None:
    """Also of a job that never had a second one; a result and its neighbours stay."""
    won = new_id()
    with engine.begin() as db:
        db.execute(
            text("""INSERT INTO jobs (id, owner, family, operation, input, turn)
            VALUES (:id, 'ann', 'toy', 'toy.play', '{}', 1)"""),
            {"id": won},
        )
        take(db, job).stop(db, "failed", ERROR, 60)
        take(db, won).publish(db, {}, [], 60)
        db.execute(text("SET LOCAL session_replication_role = replica"))  # the guard lets no end be moved
        db.execute(text("UPDATE jobs SET finished_at = now() - interval '2 hours'"))
    settings = Settings(
        database_url=environment["DATABASE_URL"],
        redis_url=environment["REDIS_URL"],
        storage_url=environment["STORAGE_URL"],
    )
    storage = open_storage(settings.storage_url)
    prefixes = [attempt_prefix("ann", one, 1) for one in (job, won)]
    for prefix in prefixes:
        storage.put(f"{prefix}0.bin", [b"made"], "application/octet-stream")
    Janitor(settings, engine, storage).round()
    assert [list(storage.list(prefix)) for prefix in prefixes] == [[], [f"{prefixes[1]}0.bin"]]


def test_what_runs_while_the_platform_is_updated_leaves_its_record(
    engine: Engine, job: UUID, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the schema of before, with a job in its second attempt and one that had ended."""
    done = new_id()
    monkeypatch.setenv("DATABASE_URL", database_url)
    get_settings.cache_clear()
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    try:
        command.downgrade(config, "0011-1")
        with engine.begin() as db:
            db.execute(
                text("""INSERT INTO jobs (id, owner, family, operation, input, turn, state, attempt, finished_at)
                VALUES (:id, 'ann', 'toy', 'toy.play', '{}', 1, 'failed', 1, now())"""),
                {"id": done},
            )
            db.execute(text("UPDATE jobs SET attempt = attempt + 1 WHERE id = :id"), {"id": job})
            running = take(db, job)
        command.upgrade(config, "head")
    finally:
        get_settings.cache_clear()
    with engine.begin() as db:
        assert running.publish(db, {}, [], 60)
    assert [entry["number"] for entry in records(engine, job)] == [2]
    assert records(engine, done) == [], "of what ended before, nothing is made up"
