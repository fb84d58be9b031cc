"""The state machine in SQL, on a real Postgres: order, fairness, fencing, limits, the guard, upkeep."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

import shared.accounts.table
import shared.breakers.table
import shared.catalog.table
import shared.fleet.table
import shared.jobs.table
import shared.uploads.table
import shared.usage.table
import shared.webhooks.table  # noqa: F401
from shared.database import Base, open_database
from shared.errors import AtelierError, Conflict, QueueFull, RateLimited, Unavailable
from shared.ids import new_id
from shared.jobs.attempts import Attempt, Backoff, Pulse
from shared.jobs.claims import Claim, claim, claim_next, ring
from shared.jobs.queries import JobQueries
from shared.jobs.submissions import Limits, Receipt, Submission, Submitter
from shared.jobs.upkeep import Budget, expire, mark_for_purge, marked, reap_expired, reap_worker
from shared.wall import open_walled
from shared.webhooks.events import ENDS
from tests.platform import wait_until

T = TypeVar("T")
UNLIMITED = Limits(0, 0)
BUDGET = Budget(max_crashes=2, max_failures=3, pause=0, ttl=60)


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _empty(engine: Engine) -> None:
    with engine.begin() as db:
        db.execute(
            text(
                "TRUNCATE jobs, idempotency_keys, webhooks, webhook_secrets, job_webhooks, deliveries, workers, models"
            )
        )


@pytest.fixture
def gateway(database_url: str) -> Callable[[Callable[[asyncpg.Pool], Awaitable[Any]]], Any]:
    """Runs a coroutine with a pool of the gateway's: its role, behind the wall."""

    def run(work: Callable[[asyncpg.Pool], Awaitable[T]]) -> T:
        async def with_pool() -> T:
            async with open_walled(database_url, name="test", size=8) as pool:
                return await work(pool)

        return asyncio.run(with_pool())

    return run


def submission(**values: Any) -> Submission:
    given = {"owner": "ann", "family": "toy", "operation": "toy.play", "priority": 0, "input": "{}", "deadline": 3600}
    return Submission(id=new_id(), **{**given, **values})


def submit_all(gateway: Any, *wanted: dict[str, Any], limits: Limits = UNLIMITED, submitters: int = 1) -> list[Any]:
    """Submit at once; receipts or the errors, in order."""

    async def work(pool: asyncpg.Pool) -> list[Receipt | BaseException]:
        several = [Submitter(pool, limits, lambda _: None) for _ in range(submitters)]
        calls = [several[n % submitters].submit(submission(**values)) for n, values in enumerate(wanted)]
        return await asyncio.gather(*calls, return_exceptions=True)

    return gateway(work)


def order(engine: Engine) -> list[UUID]:
    """The ids in the order in which workers get them."""
    taken = []
    with engine.begin() as db:
        while claimed := claim_next(db, "toy", "w/1", 60):
            taken.append(claimed.id)
    return taken


def take(engine: Engine, job_id: UUID | None = None) -> Claim:
    with engine.begin() as db:
        claimed = claim(db, job_id, "w/1", 60) if job_id else claim_next(db, "toy", "w/1", 60)
    assert claimed is not None
    return claimed


def column(engine: Engine, name: str, job_id: UUID) -> Any:
    with engine.begin() as db:
        return db.execute(text(f"SELECT {name} FROM jobs WHERE id = :id"), {"id": job_id}).scalar_one()


def test_the_tables_are_what_the_migrations_made(engine: Engine) -> None:
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_heavy_owner_does_not_starve_a_light_one(engine: Engine, gateway: Any) -> None:
    heavy = [r.job_id for r in submit_all(gateway, *[{"owner": "heavy"}] * 50)]
    first = [take(engine).id for _ in range(10)]
    assert first == heavy[:10], "alone, an owner's jobs go oldest first"
    light = [r.job_id for r in submit_all(gateway, *[{"owner": "light"}] * 3)]
    urgent = submit_all(gateway, {"owner": "heavy", "priority": 1})[0].job_id
    rest = order(engine)
    assert rest[0] == urgent, "priority goes before fairness"
    assert [rest.index(job) for job in light] == [2, 4, 6], "one turn each"


def test_two_dispatchers_never_ring_for_the_same_job(engine: Engine, gateway: Any) -> None:
    submit_all(gateway, *[{}] * 30)
    with engine.connect() as one, engine.connect() as two:
        a, b = ring(one, "toy", 20, 60), ring(two, "toy", 20, 60)
        assert len({bell.job_id for bell in a + b}) == 30
        one.commit()
        two.commit()
    with engine.begin() as db:
        assert ring(db, "toy", 20, 60) == [], "dispatched jobs wait for an answer"
        assert len(ring(db, "toy", 20, 0)) == 20, "unanswered doorbells ring again"


def test_late_doubled_and_forged_doorbells_do_nothing(engine: Engine, gateway: Any) -> None:
    job_id = submit_all(gateway, {})[0].job_id
    take(engine, job_id)
    with engine.begin() as db:
        assert claim(db, job_id, "w/2", 60) is None
        assert claim(db, new_id(), "w/2", 60) is None


def test_a_zombie_changes_nothing(engine: Engine, gateway: Any) -> None:
    job_id = submit_all(gateway, {})[0].job_id
    zombie = Attempt(job_id, take(engine).attempt, "w/1")
    with engine.begin() as db:
        assert [moved.state for moved in reap_worker(db, BUDGET, "w/1")] == ["queued"]
        second = claim(db, job_id, "w/2", 60)
        assert second is not None
        assert second.attempt == 2
    with engine.begin() as db:
        assert zombie.beat(db, 60, None) is Pulse.LOST
        assert not zombie.publish(db, {}, [], 60)
        assert zombie.stop(db, "failed", None, 60) is None
        assert zombie.retry(db, {}, Backoff(3, 0, 0), 60) is None
        assert zombie.drain(db, 60) is None
        assert Attempt(job_id, 2, "w/2").publish(db, {"n": 2}, [], 60)
    assert column(engine, "result_attempt", job_id) == 2


def test_cancel_wins_over_publish_failure_and_crash(engine: Engine, gateway: Any) -> None:
    jobs = [r.job_id for r in submit_all(gateway, *[{}] * 4)]
    attempts = [Attempt(job, take(engine, job).attempt, "w/1") for job in jobs]

    async def cancel(pool: asyncpg.Pool) -> list[str | None]:
        queries = JobQueries(pool)
        assert await queries.cancel(jobs[0], "eve", 60) is None, "nobody cancels another's job"
        return [await queries.cancel(job, "ann", 60) for job in jobs]

    assert gateway(cancel) == ["running"] * 4
    with engine.begin() as db:
        assert attempts[0].beat(db, 60, None) is Pulse.CANCELLED
        assert not attempts[0].publish(db, {}, [], 60)
        assert attempts[0].stop(db, "failed", {"code": "x"}, 60) == "cancelled"
        assert attempts[1].retry(db, {"code": "x"}, Backoff(3, 0, 0), 60) == "cancelled"
        assert attempts[2].drain(db, 60) == "cancelled"
        assert [moved.state for moved in reap_worker(db, BUDGET, "w/1")] == ["cancelled"]


def test_retries_back_off_and_end(engine: Engine, gateway: Any) -> None:
    job_id = submit_all(gateway, {})[0].job_id
    states = []
    for _ in range(3):
        claimed = take(engine, job_id)
        with engine.begin() as db:
            error = {"code": "gpu_oom", "attempt": claimed.attempt}
            states.append(Attempt(job_id, claimed.attempt, "w/1").retry(db, error, Backoff(3, 0.001, 1), 60))
            db.execute(text("UPDATE jobs SET run_after = now() WHERE state = 'queued'"))
    assert states == ["queued", "queued", "failed"]
    assert [entry["attempt"] for entry in column(engine, "errors", job_id)] == [1, 2, 3]


def test_the_reaper_waits_for_the_lease_then_moves_on_and_gives_up_after_two_crashes(
    engine: Engine, gateway: Any
) -> None:
    job_id = submit_all(gateway, {})[0].job_id
    for expected in ("queued", "failed"):
        take(engine, job_id)
        with engine.begin() as db:
            assert reap_expired(db, BUDGET, 0.01, {"toy": 60}) == [], "the lease is not over"
            db.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '1 s' WHERE state = 'running'"))
            assert [moved.state for moved in reap_expired(db, BUDGET, 0.01, {"toy": 60})] == [expected]
            assert reap_expired(db, BUDGET, 1e9, {"toy": 60}) == [], "Postgres started less than a lease ago"
    assert column(engine, "error", job_id)["code"] == "worker_lost"


def test_a_job_that_runs_longer_than_its_family_allows_is_reaped(engine: Engine, gateway: Any) -> None:
    submit_all(gateway, {})
    take(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE jobs SET attempt_started_at = now() - interval '61 s'"))
        assert len(reap_expired(db, BUDGET, 0.01, {"toy": 60})) == 1


def test_deadlines_expire_queued_jobs(engine: Engine, gateway: Any) -> None:
    job_id = submit_all(gateway, {"deadline": 0})[0].job_id
    with engine.begin() as db:
        assert claim(db, job_id, "w/1", 60) is None
        assert [moved.state for moved in expire(db, 60)] == ["expired"]


def test_what_timed_out_never_completes(engine: Engine, gateway: Any) -> None:
    queued, running, done, early = (r.job_id for r in submit_all(gateway, *[{}] * 4))
    attempts = [Attempt(job, take(engine, job).attempt, "w/1") for job in (running, done)]
    with engine.begin() as db:
        assert attempts[1].publish(db, {}, [], 60)
    with engine.connect() as publishing:
        publishing.execute(text("SELECT 1"))  # the worker's transaction is older than the deadline
        with engine.begin() as db:
            passed = text("UPDATE jobs SET deadline_at = clock_timestamp() WHERE id <> :id")
            db.execute(passed, {"id": early})

        async def ask(pool: asyncpg.Pool) -> list[str | None]:
            queries = JobQueries(pool)
            assert await queries.expire(queued, "eve", 60) is None, "nobody ends another's job"
            return [await queries.expire(job, "ann", 60) for job in (queued, running, done, early)]

        assert gateway(ask) == ["expired", "running", None, None]
        assert not attempts[0].publish(publishing, {}, [], 60)
        assert attempts[0].stop(publishing, "expired", {"code": "deadline"}, 60) == "expired"
    assert column(engine, "error", queued)["code"] == "deadline"


def test_a_publication_that_waits_looks_at_the_clock_again(engine: Engine, gateway: Any) -> None:
    job_id = submit_all(gateway, {"deadline": 1})[0].job_id
    attempt = Attempt(job_id, take(engine, job_id).attempt, "w/1")

    def publish() -> bool:
        with engine.begin() as db:
            return attempt.publish(db, {}, [], 60)

    with engine.begin() as db, ThreadPoolExecutor(1) as worker:
        db.execute(text("UPDATE jobs SET error = NULL"))
        publishing = worker.submit(publish)
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        wait_until(lambda: db.execute(waits).scalar_one())
        passed = text("SELECT deadline_at <= clock_timestamp() FROM jobs")
        wait_until(lambda: db.execute(passed).scalar_one())
        db.commit()
        assert not publishing.result()


def test_purge_has_two_phases(engine: Engine, gateway: Any) -> None:
    job_id = submit_all(gateway, {})[0].job_id
    with engine.begin() as db:
        assert Attempt(job_id, 1, "w/1").publish(db, {}, [], 60) is False
    attempt = Attempt(job_id, take(engine).attempt, "w/1")
    with engine.begin() as db:
        assert attempt.publish(db, {}, [], 0)
    with engine.begin() as db:
        assert mark_for_purge(db) == 1
        assert marked(db, 900) == [], "downloads that began before may go on"
    with engine.begin() as db:
        assert [doomed.id for doomed in marked(db, 0)] == [job_id]


@pytest.mark.parametrize(
    "change",
    [
        "state = 'completed', result_attempt = 1, finished_at = now()",
        "state = 'failed', finished_at = now()",
        "attempt = attempt + 2",
        "attempt = attempt - 1",
        "state = 'running'",
        "state = 'paused'",
        "finished_at = now()",
    ],
)
def test_the_database_refuses_illegal_changes_of_a_queued_job(engine: Engine, gateway: Any, change: str) -> None:
    submit_all(gateway, {})
    with pytest.raises(IntegrityError), engine.begin() as db:
        db.execute(text(f"UPDATE jobs SET {change}"))


@pytest.mark.parametrize(
    "change",
    [
        "state = 'queued', finished_at = NULL, result_attempt = NULL",
        "state = 'cancelled', result_attempt = NULL",
        "result_attempt = 2",
        "attempt = 2",
        """output = '{"other": 1}'""",
        "finished_at = now() + interval '1 s'",
    ],
)
def test_the_database_refuses_any_change_of_a_result(engine: Engine, gateway: Any, change: str) -> None:
    job_id = submit_all(gateway, {})[0].job_id
    attempt = Attempt(job_id, take(engine).attempt, "w/1")
    with engine.begin() as db:
        assert attempt.publish(db, {"n": 1}, [], 60)
    with pytest.raises(IntegrityError), engine.begin() as db:
        db.execute(text(f"UPDATE jobs SET {change}"))


def test_forty_submitters_get_exactly_the_limit(engine: Engine, gateway: Any) -> None:
    answers, left = [], 140
    while left:  # who waited for the lock in vain is told to try again, and does
        told = submit_all(gateway, *[{}] * left, limits=Limits(100, 0), submitters=min(left, 40))
        answers += [answer for answer in told if not isinstance(answer, Conflict)]
        left = 140 - len(answers)
    assert sum(isinstance(answer, Receipt) for answer in answers) == 100
    assert sum(isinstance(answer, RateLimited) for answer in answers) == 40
    full = submit_all(gateway, {"owner": "bob"}, limits=Limits(0, 100))[0]
    assert isinstance(full, AtelierError)
    assert full.error_code == "queue_full"
    refused = submit_all(gateway, {"key": "k", "fingerprint": b"f"}, limits=Limits(100, 0))[0]
    assert isinstance(refused, RateLimited)
    order(engine)
    with engine.begin() as db:
        reap_worker(db, Budget(1, 1, 0, 60), "w/1")
    accepted = submit_all(gateway, {"key": "k", "fingerprint": b"f"}, limits=Limits(100, 0))[0]
    assert not accepted.replayed, "a refused submit does not use up its key"


def test_owners_who_come_at_once_fill_the_queue_exactly(engine: Engine, gateway: Any) -> None:
    answers, left = [], 70
    while left:
        owners = [{"owner": f"owner-{left}-{number}"} for number in range(left)]
        told = submit_all(gateway, *owners, limits=Limits(0, 50), submitters=min(left, 40))
        answers += [answer for answer in told if isinstance(answer, Receipt | QueueFull)]
        left = 70 - len(answers)
    assert sum(isinstance(answer, Receipt) for answer in answers) == 50
    assert sum(isinstance(answer, QueueFull) for answer in answers) == 20
    assert len(order(engine)) == 50


def test_who_is_refused_is_told_when_there_may_be_room(engine: Engine, gateway: Any) -> None:
    with engine.begin() as db:
        db.execute(text("INSERT INTO workers (name, families, device, state) VALUES ('w', '{paced}', 'cpu', 'ready')"))
        db.execute(
            text(
                "INSERT INTO usage_days (owner, day, family, completed, failed, gpu_seconds) "
                "SELECT 'ann', (now() AT TIME ZONE 'UTC')::date, 'paced', 8, 2, 200"
            )
        )
    told = submit_all(gateway, *[{"family": "paced"}] * 15, limits=Limits(0, 5))
    refused = [answer for answer in told if isinstance(answer, QueueFull)]
    assert len(refused) == 10
    assert all(answer.details == {"limit": 5, "current": 5, "family": "paced"} for answer in refused)
    seconds = [int(answer.headers["Retry-After"]) for answer in refused]
    for place, told_seconds in enumerate(seconds, 1):  # a job holds the only worker for 20 s
        assert 18 * place - 1 <= told_seconds <= 22 * place + 1
    own = submit_all(gateway, {"family": "paced"}, limits=Limits(5, 0))[0]
    assert isinstance(own, RateLimited)
    assert 18 <= int(own.headers["Retry-After"]) <= 22


def test_who_waits_too_long_for_the_database_is_refused(engine: Engine, gateway: Any) -> None:
    async def work(pool: asyncpg.Pool) -> list[Any]:
        submitter = Submitter(pool, Limits(100, 0, turn=0.1), lambda _: None)
        with engine.begin() as db:
            db.execute(text("SELECT pg_advisory_xact_lock(1, hashtext('ann'))"))
            first = asyncio.create_task(submitter.submit(submission()))
            await asyncio.sleep(0.05)
            waited = await asyncio.gather(submitter.submit(submission()), return_exceptions=True)
        return [await first, *waited]

    receipt, refused = gateway(work)
    assert isinstance(receipt, Receipt), "whose turn it is stays"
    assert isinstance(refused, Unavailable)
    assert refused.headers["Retry-After"] == "1"


@pytest.mark.parametrize("held", ["1, hashtext('bob')", "2, hashtext('toy')"], ids=["an owner", "the family"])
def test_whom_others_block_is_told_that_it_is_busy(engine: Engine, gateway: Any, held: str) -> None:
    """A 409 would say that it is a request of one's own. Another gateway that stands still holds locks so long."""
    with engine.begin() as db:
        db.execute(text(f"SELECT pg_advisory_xact_lock({held})"))
        refused = submit_all(gateway, {"owner": "ann"}, {"owner": "bob"}, limits=Limits(100, 100))
    assert [(type(error), error.headers["Retry-After"]) for error in refused] == [(Unavailable, "1")] * 2


def test_one_key_makes_one_job_over_many_gateways(engine: Engine, gateway: Any) -> None:
    wanted = [{"key": f"k{n % 5}", "fingerprint": b"f"} for n in range(100)]
    random.Random(0).shuffle(wanted)
    answers = submit_all(gateway, *wanted, submitters=8)
    assert len({answer.job_id for answer in answers}) == 5
    assert sum(not answer.replayed for answer in answers) == 5
    with engine.begin() as db:
        assert db.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 5
    other = submit_all(gateway, {"key": "k0", "fingerprint": b"g"})[0]
    assert other.error_code == "idempotency_key_reused"
    assert not submit_all(gateway, {"key": "k0", "fingerprint": b"g", "owner": "bob"})[0].replayed, (
        "keys are an owner's"
    )


def test_a_row_that_postgres_refuses_does_not_take_its_batch_with_it(engine: Engine, gateway: Any) -> None:
    answers = submit_all(gateway, {}, {"input": '"\\u0000"'}, {})
    assert [isinstance(answer, Receipt) for answer in answers] == [True, False, True]


def test_every_ended_job_has_one_event(engine: Engine, gateway: Any) -> None:
    with engine.begin() as db:
        db.execute(
            text("INSERT INTO webhooks (id, owner, url, events) VALUES (:id, 'ann', 'https://x.example', :events)"),
            {"id": new_id(), "events": list(ENDS)},
        )
    jobs = [r.job_id for r in submit_all(gateway, *[{}] * 3)]
    with engine.begin() as db:
        done = claim(db, jobs[0], "w/1", 60)
        assert done is not None
        Attempt(jobs[0], done.attempt, "w/1").publish(db, {}, [], 60)
        db.execute(text("UPDATE jobs SET deadline_at = now() - interval '1 s' WHERE id = :id"), {"id": jobs[1]})
        expire(db, 60)
        events = db.execute(text("SELECT job_id, type FROM deliveries")).all()
    assert sorted(events) == sorted([(jobs[0], "job.completed"), (jobs[1], "job.expired")])
    with pytest.raises(IntegrityError, match="deliveries_once"), engine.begin() as db:
        db.execute(
            text("""INSERT INTO deliveries (owner, webhook_id, job_id, type, data, destination)
            SELECT owner, webhook_id, job_id, type, data, destination FROM deliveries LIMIT 1""")
        )


def test_reads_that_share_a_statement_give_each_owner_only_its_own(engine: Engine, gateway: Any) -> None:
    ann, bob = (r.job_id for r in submit_all(gateway, {"owner": "ann"}, {"owner": "bob"}))

    async def read(pool: asyncpg.Pool) -> list[Any]:
        queries = JobQueries(pool)
        gone = asyncio.create_task(queries.get(ann, "ann"))
        asked = [(ann, "ann"), (bob, "bob"), (ann, "bob"), (bob, "ann"), (new_id(), "ann"), (ann, "ann")]
        reads = [asyncio.create_task(queries.get(*one)) for one in asked]
        await asyncio.sleep(0)
        gone.cancel()
        found = await asyncio.gather(*reads)
        await pool.close()
        with pytest.raises(asyncpg.InterfaceError):
            await queries.get(ann, "ann")
        return found

    found = gateway(read)
    assert [job.id if job else None for job in found] == [ann, bob, None, None, None, ann]


QUEUE = text("""
INSERT INTO jobs (id, owner, family, operation, input, turn)
SELECT gen_random_uuid(), 'ann', 'toy', 'toy.play', '{}', n FROM generate_series(1, 6000) n
""")
ENDED = text("""
INSERT INTO jobs (id, owner, family, operation, input, turn, state, finished_at)
SELECT gen_random_uuid(), 'ann', 'toy', 'toy.play', '{}', n, 'cancelled', now() FROM generate_series(1, 1000) n
""")
READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"
READ_BY_ALL = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'jobs'"


@pytest.mark.parametrize("known", [True, False], ids=["analysed", "queued since the last ANALYZE"])
def test_a_long_queue_is_not_read_to_ring_claim_or_submit(engine: Engine, gateway: Any, known: bool) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        analyse = text("VACUUM ANALYZE jobs")
        for statement in (ENDED, QUEUE, analyse) if known else (ENDED, analyse, QUEUE):
            db.execute(statement)
    with engine.begin() as db:
        before = db.execute(text(READ)).scalar_one()
        assert len(ring(db, "toy", 20, 60)) == 20
        assert claim_next(db, "toy", "w/1", 60) is not None
        assert db.execute(text(READ)).scalar_one() - before < 500

    async def submitted(pool: asyncpg.Pool) -> int:
        submitter = Submitter(pool, UNLIMITED, lambda _: None)
        async with pool.acquire() as db:
            before = await db.fetchval(READ_BY_ALL)
        for _ in range(10):
            await submitter.submit(submission())
        async with pool.acquire() as db:
            await db.execute("SELECT pg_stat_force_next_flush()")
            return int(await db.fetchval(READ_BY_ALL) - before)

    assert gateway(submitted) < 500


def test_the_dispatchers_order_is_read_from_its_index(engine: Engine) -> None:
    with engine.begin() as db:
        db.execute(
            text("""
            INSERT INTO jobs (id, owner, family, operation, input, turn, priority)
            SELECT gen_random_uuid(), 'o' || n % 7, 'toy', 'toy.play', '{}', n, n % 10 FROM generate_series(1, 20000) n
            """)
        )
        db.execute(text("ANALYZE jobs"))
        query = """
            EXPLAIN SELECT id FROM jobs WHERE state = 'queued' AND family = 'toy' AND run_after <= now()
            AND (dispatched_at IS NULL OR dispatched_at < now() - interval '60 s')
            ORDER BY priority DESC, turn, id LIMIT 20 FOR UPDATE SKIP LOCKED"""
        plan = "\n".join(db.execute(text(query)).scalars())
    assert "jobs_order" in plan
    assert "Sort" not in plan
