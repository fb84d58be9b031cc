"""Several jobs as one batch: who is taken, and that each job keeps an end of its own. One executor, no processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import Engine, text
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from shared.database import open_database
from shared.events import EventPublisher
from shared.ids import new_id
from shared.jobs.attempts import Attempt, Pulse
from shared.jobs.claims import Claim, claim_companions, claim_next
from shared.jobs.queries import JobQueries
from shared.jobs.submissions import Limits, Submission, Submitter
from shared.jobs.upkeep import Budget, reap_worker
from shared.settings import Settings, get_settings
from shared.storage.interface import Storage
from shared.storage.open import open_storage
from shared.wall import open_walled
from tests.platform import wait_until
from tests.toys.choir import MAX_BATCH, ChoirRunner
from workers.families import registrations
from workers.runtime.executor import Executor
from workers.runtime.residency import Residency
from workers.runtime.runner import Job

T = TypeVar("T")
BUDGET = Budget(max_crashes=2, max_failures=3, pause=0, ttl=60)


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url, pool_size=4)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def storage(storage_url: str) -> Storage:
    return open_storage(storage_url, None, "us-east-1")


@pytest.fixture(scope="module")
def said() -> Iterator[list[Any]]:
    """The log of the executor's process."""
    with capture_logs(processors=[merge_contextvars]) as logs:
        yield logs


@pytest.fixture(scope="module")
def executor(engine: Engine, storage: Storage, environment: dict[str, str], said: list[Any]) -> Iterator[Executor]:
    """A worker's executor in this process, which serves the choir."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATELIER_EXTRA_FAMILIES", "tests.toys.choir")
        for cached in (get_settings, registrations):
            cached.cache_clear()
        settings = Settings(
            database_url=environment["DATABASE_URL"],
            redis_url=environment["REDIS_URL"],
            storage_url=environment["STORAGE_URL"],
            lease_seconds=20,
            heartbeat_seconds=0.2,
            backoff_seconds=0.001,
        )
        events = EventPublisher(settings.redis_url)
        executor = Executor(settings, engine, storage, events, Residency("cpu", 1), "w/1", lambda _: None)
        yield executor
        executor.close()
        events.close()
    for cached in (get_settings, registrations):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def _empty(engine: Engine) -> Iterator[None]:
    with engine.begin() as db:
        db.execute(text("TRUNCATE jobs, usage_now, usage_days CASCADE"))
    ChoirRunner.calls.clear()
    yield
    ChoirRunner.at_step = None


@pytest.fixture
def gateway(database_url: str) -> Callable[[Callable[[asyncpg.Pool], Awaitable[Any]]], Any]:
    """Runs a coroutine with a pool of the gateway's."""

    def run(work: Callable[[asyncpg.Pool], Awaitable[T]]) -> T:
        async def with_pool() -> T:
            async with open_walled(database_url, name="test", size=2) as pool:
                return await work(pool)

        return asyncio.run(with_pool())

    return run


@pytest.fixture
def sing(gateway: Any) -> Callable[..., list[UUID]]:
    """Submit jobs of the choir, one for each set of inputs; `owner`, `priority`, `key` and `deadline` are the job's."""

    def submit(*wanted: dict[str, Any]) -> list[UUID]:
        async def work(pool: asyncpg.Pool) -> list[UUID]:
            submitter = Submitter(pool, Limits(0, 0), lambda _: None)
            return [receipt.job_id for receipt in [await submitter.submit(_submission(**one)) for one in wanted]]

        return gateway(work)

    return submit


def _submission(
    owner: str = "ann", priority: int = 0, key: str | None = "k", deadline: float = 3600, **given: Any
) -> Submission:
    return Submission(
        new_id(), owner, "choir", "choir.sing", priority, json.dumps(given), deadline=deadline, batch_key=key
    )


def take(engine: Engine, most: int = MAX_BATCH - 1) -> list[Claim]:
    with engine.begin() as db:
        first = claim_next(db, "choir", "w/1", 60)
        assert first is not None
        return [first, *claim_companions(db, first, most, "w/1", 60)] if first.batch_key else [first]


def column(engine: Engine, name: str, jobs: Sequence[UUID]) -> list[Any]:
    with engine.begin() as db:
        found = dict(map(tuple, db.execute(text(f"SELECT id, {name} FROM jobs"))))
    return [found[job] for job in jobs]


def songs(engine: Engine, storage: Storage, jobs: Sequence[UUID]) -> list[bytes]:
    return [b"".join(storage.read(manifest[0]["key"])) for manifest in column(engine, "manifest", jobs)]


def test_companions_are_claimed_over_owners_in_order_and_bounded(engine: Engine, sing: Any) -> None:
    owners = ["ann"] * 6 + ["bob"] * 6
    jobs = sing(*[{"owner": owner} for owner in owners], {"owner": "eve", "priority": 5})
    ann, bob, urgent = jobs[:6], jobs[6:12], jobs[12]
    first = [claimed.id for claimed in take(engine)]
    turns = [job for pair in zip(ann, bob, strict=True) for job in pair]
    assert first == [urgent, *turns[:7]]
    assert [claimed.id for claimed in take(engine)] == turns[7:]
    assert column(engine, "batch_size", jobs) == [8 if job in first else 5 for job in jobs]
    assert set(column(engine, "attempt", jobs)) == {1}


def test_only_due_jobs_of_the_same_key_come_along(engine: Engine, sing: Any) -> None:
    jobs = sing({}, {"key": "other"}, {"key": None}, {"deadline": 0}, {}, {})
    with engine.begin() as db:
        later = "UPDATE jobs SET run_after = now() + interval '1 hour' WHERE id = :id"
        db.execute(text(later), {"id": jobs[4]})
    assert [claimed.id for claimed in take(engine)] == [jobs[0], jobs[5]]
    assert [claimed.id for claimed in take(engine)] == [jobs[1]]
    assert [claimed.id for claimed in take(engine)] == [jobs[2]]


def test_two_workers_never_share_a_job(engine: Engine, sing: Any) -> None:
    sing(*[{}] * 12)
    with engine.connect() as one, engine.connect() as two:
        taken = []
        for db, worker in ((one, "w/1"), (two, "w/2")):
            first = claim_next(db, "choir", worker, 60)
            assert first is not None
            taken += [first, *claim_companions(db, first, 7, worker, 60)]
        assert len({claimed.id for claimed in taken}) == len(taken) == 12
        one.rollback()
        two.rollback()


def test_companions_are_read_from_their_index(engine: Engine, sing: Any) -> None:
    with engine.begin() as db:
        db.execute(
            text("""INSERT INTO jobs (id, owner, family, operation, input, turn, batch_key)
            SELECT gen_random_uuid(), 'ann', 'choir', 'choir.sing', '{}', n, CASE WHEN n % 500 = 0 THEN 'k' END
            FROM generate_series(1, 6000) n""")
        )
        db.execute(text("UPDATE jobs SET turn = 0 WHERE turn = 500"))
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"
    with engine.begin() as db:
        before = db.execute(text(read)).scalar_one()
        first = claim_next(db, "choir", "w/1", 60)
        assert first is not None
        assert len(claim_companions(db, first, 7, "w/1", 60)) == 7
        assert db.execute(text(read)).scalar_one() - before < 100


def test_a_batch_makes_what_single_runs_make(executor: Executor, engine: Engine, storage: Storage, sing: Any) -> None:
    owners = ["ann", "bob", "ann", "eve"]
    asked = [{"say": f"la {n}", "steps": n, "owner": owner} for n, owner in enumerate(owners)]
    alone = sing(*[one | {"key": None} for one in asked])
    assert executor.answer("choir", alone[0]) == 4
    together = sing(*asked)
    assert executor.answer("choir", together[0]) == 4
    assert [len(call) for call in ChoirRunner.calls] == [1, 1, 1, 1, 4]
    assert songs(engine, storage, together) == songs(engine, storage, alone) == [b"alto: la %d" % n for n in range(4)]
    sung = [output["sung"] for output in column(engine, "output", together)]
    assert sung == ["la 0", "la 1", "la 2", "la 3"]
    assert {output["together"] for output in column(engine, "output", together)} == {4}
    keys = [manifest[0]["key"] for manifest in column(engine, "manifest", together)]
    assert keys == [f"results/{owner}/{job}/1/0.txt" for owner, job in zip(owners, together, strict=True)]


def test_a_worker_goes_on_with_batches_until_the_queue_is_empty(executor: Executor, engine: Engine, sing: Any) -> None:
    jobs = sing(*[{"say": str(n)} for n in range(19)])
    assert executor.answer("choir", uuid4()) == 19, "a forged doorbell is as good as any"
    assert [len(call) for call in ChoirRunner.calls] == [8, 8, 3]
    assert set(column(engine, "state", jobs)) == {"completed"}


def test_one_that_fails_fails_alone(executor: Executor, engine: Engine, sing: Any, said: list[Any]) -> None:
    said.clear()
    jobs = sing({"say": "a"}, {"fail": "input"}, {"step_seconds": -1}, {"say": "b"})
    executor.answer("choir", jobs[0])
    assert column(engine, "state", jobs) == ["completed", "failed", "failed", "completed"]
    assert [error and error["code"] for error in column(engine, "error", jobs)] == [
        None,
        "input_rejected",
        "input_rejected",
        None,
    ]
    assert [sorted(call) for call in ChoirRunner.calls] == [["", "a", "b"]], "what cannot be valid is not tried"
    told = [line["job"] for line in said if line["event"] == "attempt failed"]
    assert told == [str(jobs[2]), str(jobs[1])], "lines name the job that they tell of"


@pytest.mark.parametrize(("fail", "ends"), [("bug", "failed"), ("together", "completed"), ("memory", "completed")])
def test_a_batch_that_fails_as_a_whole_runs_one_by_one(
    executor: Executor, engine: Engine, storage: Storage, sing: Any, fail: str, ends: str
) -> None:
    jobs = sing({"say": "a"}, {"say": "p", "fail": fail}, {"say": "b"})
    executor.answer("choir", jobs[0])
    good = [jobs[0], jobs[2]]
    assert column(engine, "state", good) == ["completed"] * 2
    assert songs(engine, storage, good) == [b"alto: a", b"alto: b"]
    assert {output["together"] for output in column(engine, "output", good)} == {1}
    assert column(engine, "attempt", good) == [1, 1], "in the same attempt"
    assert column(engine, "failures", good) == [0, 0]
    wait_until(lambda: executor.answer("choir", jobs[1]) or column(engine, "state", [jobs[1]]) == [ends])
    assert column(engine, "batch_key", [jobs[1]]) == [None if ends == "failed" else "k"], "who failed stays alone"


def test_an_output_that_postgres_refuses_does_not_take_its_neighbours_with_it(
    executor: Executor, engine: Engine, sing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = ChoirRunner._part

    def with_a_nul(self: ChoirRunner, request: Any, job: Job, together: int) -> Any:
        return part(self, request, job, together) | ({"sung": "\0"} if request.say == "nul" else {})

    monkeypatch.setattr(ChoirRunner, "_part", with_a_nul)
    jobs = sing({"say": "a"}, {"say": "nul"}, {"say": "b", "owner": "bob"})
    executor.answer("choir", jobs[0])
    assert column(engine, "state", [jobs[0], jobs[2]]) == ["completed"] * 2
    assert column(engine, "failures", jobs)[1] > 0


def test_a_cancelled_one_stops_and_the_others_go_on(
    executor: Executor, engine: Engine, storage: Storage, sing: Any, gateway: Any
) -> None:
    jobs = sing(*[{"say": str(n), "steps": 3} for n in range(3)])
    steps: list[list[str]] = []

    def cancel_the_second(singing: Sequence[Job]) -> None:
        steps.append([job.id for job in singing if not job.cancelled])
        if len(steps) == 1:
            told = gateway(lambda pool: JobQueries(pool).cancel(jobs[1], "ann", 60))
            assert told == "running"
            victim = next(job for job in singing if job.id == str(jobs[1]))
            wait_until(lambda: victim.cancelled)

    ChoirRunner.at_step = cancel_the_second
    executor.answer("choir", jobs[0])
    assert column(engine, "state", jobs) == ["completed", "cancelled", "completed"]
    assert [len(step) for step in steps] == [3, 2, 2]
    assert not list(storage.list(f"results/ann/{jobs[1]}/"))


def test_when_all_are_cancelled_the_batch_stops(executor: Executor, engine: Engine, sing: Any, gateway: Any) -> None:
    jobs = sing(*[{"steps": 1000}] * 3)
    steps: list[int] = []

    def cancel_all(singing: Sequence[Job]) -> None:
        steps.append(1)
        if len(steps) == 1:
            for job in jobs:
                gateway(lambda pool, job=job: JobQueries(pool).cancel(job, "ann", 60))
            wait_until(lambda: all(job.cancelled for job in singing))

    ChoirRunner.at_step = cancel_all
    executor.answer("choir", jobs[0])
    assert column(engine, "state", jobs) == ["cancelled"] * 3
    assert len(steps) < 1000


def test_a_deadline_of_one_is_its_own(executor: Executor, engine: Engine, sing: Any) -> None:
    jobs = sing({"steps": 2}, {"steps": 2, "deadline": 0.3}, {"steps": 2})

    def outlast(singing: Sequence[Job]) -> None:
        wait_until(lambda: any(job.cancelled for job in singing))

    ChoirRunner.at_step = outlast
    executor.answer("choir", jobs[0])
    assert column(engine, "state", jobs) == ["completed", "expired", "completed"]
    assert column(engine, "error", jobs)[1]["code"] == "deadline"


def test_who_lost_its_lease_writes_nothing(executor: Executor, engine: Engine, storage: Storage, sing: Any) -> None:
    jobs = sing(*[{"say": str(n), "steps": 2} for n in range(3)])

    def lose_the_second(singing: Sequence[Job]) -> None:
        with engine.begin() as db:
            away = "UPDATE jobs SET lease_owner = 'w/2', attempt = 2 WHERE id = :id AND attempt = 1"
            db.execute(text(away), {"id": jobs[1]})
        wait_until(lambda: any(job.cancelled for job in singing))

    ChoirRunner.at_step = lose_the_second
    executor.answer("choir", jobs[0])
    assert column(engine, "state", jobs) == ["completed", "running", "completed"]
    assert not list(storage.list(f"results/ann/{jobs[1]}/")), "a zombie takes its files away"


def test_a_device_fault_fails_all_and_ends_the_process(
    executor: Executor, engine: Engine, sing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr("workers.runtime.executor.os.kill", lambda pid, number: ended.append(number))
    jobs = sing({}, {"fail": "fault"}, {}, {"key": None})
    executor.answer("choir", jobs[0])
    assert ended == [9]
    assert column(engine, "state", jobs) == ["queued"] * 4
    assert column(engine, "failures", jobs) == [1, 1, 1, 0], "and nothing more is claimed"


def test_a_crash_in_a_batch_charges_nobody_and_breaks_it_up(engine: Engine, sing: Any) -> None:
    jobs = sing(*[{}] * 3)
    assert len(take(engine)) == 3
    with engine.begin() as db:
        assert [moved.state for moved in reap_worker(db, BUDGET, "w/1")] == ["queued"] * 3
    for counted in ("crashes", "failures"):
        assert column(engine, counted, jobs) == [0, 0, 0]
    poison = take(engine)
    assert len(poison) == 1, "whose fault it was is found out one by one"
    for expected in ("queued", "failed"):
        with engine.begin() as db:
            assert [moved.state for moved in reap_worker(db, BUDGET, "w/1")] == [expected]
            if expected == "queued":
                assert claim_next(db, "choir", "w/1", 60) is not None


def test_a_batch_books_the_devices_time_once(engine: Engine, sing: Any) -> None:
    owners = ["ann", "bob", "ann", "eve"]
    jobs = sing(*[{"owner": owner} for owner in owners])
    claims = take(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE jobs SET attempt_started_at = attempt_started_at - interval '40 s'"))
    with engine.begin() as db:
        for number, claimed in enumerate(claims):
            attempt = Attempt(claimed.id, 1, "w/1")
            assert attempt.stop(db, "failed", {}, 60) if number % 2 else attempt.publish(db, {}, [], 60)
        booked = dict(map(tuple, db.execute(text("SELECT owner, gpu_seconds FROM usage_now"))))
    assert {owner: round(seconds) for owner, seconds in booked.items()} == {"ann": 20, "bob": 10, "eve": 10}
    assert column(engine, "batch_size", jobs) == [4] * 4


def test_a_lost_batch_held_the_device_no_longer_than_its_lease(engine: Engine, sing: Any) -> None:
    sing(*[{}] * 2)
    take(engine)
    with engine.begin() as db:
        ago = "attempt_started_at = now() - interval '100 s', lease_expires_at = now() - interval '60 s'"
        db.execute(text(f"UPDATE jobs SET {ago}"))
    with engine.begin() as db:
        reap_worker(db, BUDGET, "w/1")
        assert round(db.execute(text("SELECT gpu_seconds FROM usage_now")).scalar_one()) == 40


def test_beats_of_a_batch_are_each_jobs_own(engine: Engine, sing: Any, gateway: Any) -> None:
    jobs = sing({}, {}, {"deadline": 3600})
    claims = take(engine)
    gateway(lambda pool: JobQueries(pool).cancel(jobs[1], "ann", 60))
    with engine.begin() as db:
        db.execute(text("UPDATE jobs SET deadline_at = now() WHERE id = :id"), {"id": jobs[2]})
    with engine.begin() as db:
        beats = [Attempt(claimed.id, 1, "w/1").beat(db, 60, None) for claimed in claims]
    assert beats == [Pulse.GO_ON, Pulse.CANCELLED, Pulse.EXPIRED]
