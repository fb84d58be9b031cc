"""Quotas are exact: what is booked is what lies in the storage and what attempts held, and it alone refuses."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from shared.database import SESSION, open_database
from shared.errors import QuotaExceeded
from shared.ids import new_id
from shared.jobs.attempts import Attempt, Backoff
from shared.jobs.claims import claim, claim_next
from shared.jobs.queries import JobQueries
from shared.jobs.submissions import Limits, Receipt, Submission, Submitter
from shared.jobs.upkeep import Budget, expire, mark_for_purge, marked, purge_done, reap_expired, reap_worker
from shared.usage.quotas import Quotas
from shared.usage.upkeep import forget_usage
from tests.accounts import AUTH, Person, register
from tests.egress.servers import Server, reply, serving
from tests.forms import PNG
from tests.integration.kept import Kept
from tests.integration.test_accounts import execute
from tests.platform import ROOT, Platform, two_gateways, wait_until

BUDGET = Budget(max_crashes=2, max_failures=3, pause=0, ttl=60)
STORED = "SELECT coalesce(sum(stored_bytes), 0) FROM jobs WHERE owner = :owner"
BOOKED = "SELECT coalesce(sum(stored_bytes), 0) FROM usage_now WHERE owner = :owner"
OUTSIDE = "127.0.0.2"
names = (f"saver{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url, pool_size=8)
    yield engine
    engine.dispose()


@pytest.fixture
def owner() -> str:
    return next(names)


@pytest.fixture
def on_two_gateways(database_url: str) -> Callable[..., Any]:
    """Runs a coroutine with the pools of two gateways."""

    def run(work: Callable[..., Awaitable[Any]]) -> Any:
        async def with_pools() -> Any:
            pools = [
                await asyncpg.create_pool(database_url, min_size=1, max_size=4, server_settings=SESSION)
                for _ in range(2)
            ]
            try:
                return await work(*pools)
            finally:
                for pool in pools:
                    await pool.close()

        return asyncio.run(with_pools())

    return run


def submit_all(on_two_gateways: Any, *wanted: dict[str, Any], submitters: int = 2, grace: float = 900) -> list[Any]:
    """Submit at once; receipts or the errors, in order."""

    async def work(*pools: asyncpg.Pool) -> list[Any]:
        several = [Submitter(pools[n % 2], Limits(0, 0, grace), lambda _: None) for n in range(submitters)]
        calls = []
        for n, values in enumerate(wanted):
            given = {"family": "toy", "operation": "toy.play", "priority": 0, "input": "{}", "deadline": 3600}
            calls.append(several[n % submitters].submit(Submission(id=new_id(), **{**given, **values})))
        return await asyncio.gather(*calls, return_exceptions=True)

    return on_two_gateways(work)


def scalar(engine: Engine, statement: str, **values: Any) -> Any:
    with engine.begin() as db:
        return db.execute(text(statement), values).scalar_one_or_none()


def take(engine: Engine, job_id: UUID, seconds: float = 0) -> Attempt:
    """Claim the job as if that had been so many seconds ago."""
    with engine.begin() as db:
        claimed = claim(db, job_id, "w/1", 60)
        assert claimed is not None
        back = "UPDATE jobs SET attempt_started_at = attempt_started_at - make_interval(secs => :s) WHERE id = :id"
        db.execute(text(back), {"s": seconds, "id": job_id})
    return Attempt(job_id, claimed.attempt, "w/1")


def gpu_seconds(engine: Engine, owner: str) -> float:
    return scalar(engine, "SELECT gpu_seconds FROM usage_now WHERE owner = :owner", owner=owner)


def test_forty_submitters_on_two_gateways_get_exactly_the_bytes(
    engine: Engine, on_two_gateways: Any, owner: str
) -> None:
    wanted = [{"owner": owner, "stored_bytes": 100, "quotas": Quotas(stored_bytes=1001)}] * 40
    answers = submit_all(on_two_gateways, *wanted, submitters=40)
    assert sum(isinstance(answer, Receipt) for answer in answers) == 11, "the eleventh came below the quota"
    refused = [answer for answer in answers if not isinstance(answer, Receipt)]
    assert {(type(error), error.error_code, error.status) for error in refused} == {
        (QuotaExceeded, "quota_exceeded", 429)
    }
    details = refused[0].details
    assert (details["quota"], details["used"], details["limit"]) == ("stored_bytes", 1100, 1001)
    assert details["frees_at"] is None, "none of the jobs has ended: nobody knows"
    assert scalar(engine, STORED, owner=owner) == scalar(engine, BOOKED, owner=owner) == 1100


def test_other_owners_and_those_without_a_quota_are_not_affected(on_two_gateways: Any, owner: str) -> None:
    full = {"owner": owner, "stored_bytes": 10, "quotas": Quotas(stored_bytes=5)}
    other = full | {"owner": next(names)}
    answers = submit_all(on_two_gateways, full, full, other, full | {"quotas": Quotas()}, submitters=1)
    assert [isinstance(answer, Receipt) for answer in answers] == [True, False, True, True]


def test_a_refused_submit_does_not_use_up_its_key(on_two_gateways: Any, owner: str) -> None:
    quotas = Quotas(stored_bytes=5)
    keyed = {"owner": owner, "key": "k", "fingerprint": b"f", "quotas": quotas}
    first, second = submit_all(
        on_two_gateways, {"owner": owner, "stored_bytes": 10, "quotas": quotas}, keyed, submitters=1
    )
    assert (isinstance(first, Receipt), isinstance(second, QuotaExceeded)) == (True, True)
    assert not submit_all(on_two_gateways, keyed | {"quotas": Quotas()})[0].replayed


def test_every_attempt_is_booked_whatever_became_of_it(engine: Engine, on_two_gateways: Any, owner: str) -> None:
    jobs = [receipt.job_id for receipt in submit_all(on_two_gateways, *[{"owner": owner}] * 3)]
    with engine.begin() as db:
        take(engine, jobs[0], 10).drain(db, 60)
    with engine.begin() as db:
        take(engine, jobs[0], 20).retry(db, {"code": "x"}, Backoff(3, 0, 0), 60)
    with engine.begin() as db:
        take(engine, jobs[0], 30).publish(db, {}, [], 60)
    with engine.begin() as db:
        take(engine, jobs[1], 40).stop(db, "failed", {"code": "x"}, 60)
    take(engine, jobs[2], 50)
    with engine.begin() as db:
        reap_worker(db, BUDGET, "w/1")
    assert gpu_seconds(engine, owner) == pytest.approx(150, abs=3)
    with engine.begin() as db:
        counts = db.execute(
            text("SELECT completed, failed, cancelled, gpu_seconds FROM usage_days WHERE owner = :o"), {"o": owner}
        ).one()
    assert counts[:3] == (1, 1, 0)
    assert counts[3] == pytest.approx(150, abs=3)


def test_a_lost_worker_is_booked_until_its_lease_ended(engine: Engine, on_two_gateways: Any, owner: str) -> None:
    job_id = submit_all(on_two_gateways, {"owner": owner})[0].job_id
    take(engine, job_id, 100)
    with engine.begin() as db:
        db.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '30 s' WHERE id = :id"), {"id": job_id})
        assert len(reap_expired(db, BUDGET, 0.01, {"toy": 3600})) == 1
    assert gpu_seconds(engine, owner) == pytest.approx(70, abs=3)


def test_gpu_seconds_of_a_day_refuse_until_midnight(engine: Engine, on_two_gateways: Any, owner: str) -> None:
    metered = {"owner": owner, "quotas": Quotas(gpu_seconds=60)}
    job_id = submit_all(on_two_gateways, metered)[0].job_id
    running = submit_all(on_two_gateways, metered)[0]
    assert isinstance(running, Receipt), "what still runs is not booked yet"
    with engine.begin() as db:
        take(engine, job_id, 61).publish(db, {}, [], 60)
    refused = submit_all(on_two_gateways, metered)[0]
    assert refused.details["quota"] == "gpu_seconds"
    assert 61 <= refused.details["used"] < 65
    midnight = datetime.fromisoformat(refused.details["frees_at"])
    assert (midnight.hour, midnight.minute, midnight.utcoffset()) == (0, 0, timedelta(0))
    left = (midnight - datetime.now(UTC)).total_seconds()
    assert int(refused.headers["Retry-After"]) == pytest.approx(left, abs=30)
    with engine.begin() as db:  # a day later
        db.execute(text("UPDATE usage_now SET gpu_day = gpu_day - 1 WHERE owner = :owner"), {"owner": owner})
    assert isinstance(submit_all(on_two_gateways, metered)[0], Receipt)
    with engine.begin() as db:
        take(engine, running.job_id, 5).publish(db, {}, [], 60)
    assert gpu_seconds(engine, owner) == pytest.approx(5, abs=3), "the new day begins at nothing"


def test_a_transaction_of_yesterday_does_not_undo_today(engine: Engine, owner: str) -> None:
    with engine.begin() as db:
        db.execute(text("INSERT INTO usage_now VALUES (:o, 0, (now() AT TIME ZONE 'UTC')::date + 1, 7)"), {"o": owner})
        db.execute(text("SELECT usage_book(:o, 3, 100)"), {"o": owner})
        row = db.execute(text("SELECT stored_bytes, gpu_seconds FROM usage_now WHERE owner = :o"), {"o": owner}).one()
    assert row == (3, 7)


def publish(engine: Engine, job_id: UUID, size: int, ttl: float = 60) -> None:
    attempt = take(engine, job_id)
    with engine.begin() as db:
        assert attempt.publish(db, {}, [{"name": "a", "size": size}], ttl)


def purge(engine: Engine) -> None:
    """What the janitor does, without its patience."""
    with engine.begin() as db:
        mark_for_purge(db)
    with engine.begin() as db:
        purge_done(db, marked(db, 0))


def test_bytes_are_booked_until_the_files_are_gone_and_freed_once(
    engine: Engine, on_two_gateways: Any, owner: str
) -> None:
    metered = {"owner": owner, "stored_bytes": 100, "quotas": Quotas(stored_bytes=1000)}
    kept, purged = (receipt.job_id for receipt in submit_all(on_two_gateways, metered, metered))
    publish(engine, kept, 700, ttl=500)
    publish(engine, purged, 200, ttl=300)
    refused = submit_all(on_two_gateways, metered, grace=50)[0]
    assert (refused.details["used"], refused.details["limit"]) == (1100, 1000)
    assert refused.details["retry_after"] == pytest.approx(350, abs=20), "the first file that goes makes room"
    delete = on_two_gateways(lambda pool, _: JobQueries(pool).delete(purged, owner))
    assert delete
    with engine.begin() as db:
        mark_for_purge(db)
    assert scalar(engine, BOOKED, owner=owner) == 1100, "its files are still there"
    purge(engine)
    assert scalar(engine, BOOKED, owner=owner) == 800
    assert scalar(engine, "SELECT count(*) FROM jobs WHERE id = :id", id=purged) == 0
    with engine.begin() as db:
        db.execute(text("UPDATE jobs SET purge_after = now() WHERE id = :id"), {"id": kept})
    purge(engine)
    assert scalar(engine, BOOKED, owner=owner) == 0
    on_two_gateways(lambda pool, _: JobQueries(pool).delete(kept, owner))  # a job whose files are gone already
    purge(engine)
    assert scalar(engine, BOOKED, owner=owner) == 0
    assert isinstance(submit_all(on_two_gateways, metered)[0], Receipt)


def test_when_there_is_room_counts_all_that_goes_until_then(engine: Engine, on_two_gateways: Any, owner: str) -> None:
    jobs = [receipt.job_id for receipt in submit_all(on_two_gateways, *[{"owner": owner}] * 3)]
    for job_id, ttl in zip(jobs, (100, 200, 300), strict=True):
        publish(engine, job_id, 100, ttl)
    refused = submit_all(on_two_gateways, {"owner": owner, "quotas": Quotas(stored_bytes=150)}, grace=0)[0]
    assert refused.details["retry_after"] == pytest.approx(200, abs=15)


def test_counters_that_say_nothing_are_forgotten(engine: Engine, owner: str) -> None:
    other = next(names)
    with engine.begin() as db:
        insert = text("INSERT INTO usage_now VALUES (:o, :b, (now() AT TIME ZONE 'UTC')::date - 1, 5)")
        db.execute(insert, [{"o": owner, "b": 0}, {"o": other, "b": 1}])
        forget_usage(db, 86_400)
        left = db.execute(text("SELECT owner FROM usage_now WHERE owner IN (:a, :b)"), {"a": owner, "b": other})
        assert left.scalars().all() == [other]


def test_the_books_are_right_whatever_happens_at_once(engine: Engine, on_two_gateways: Any) -> None:
    """Submits of many owners over two gateways, workers, the reaper, the janitor."""
    owners = [next(names) for _ in range(6)]
    chance = random.Random(0)

    def play_worker(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(40):
            with engine.begin() as db:
                claimed = claim_next(db, "toy", f"w/{seed}", 60)
            if claimed is None:
                continue
            attempt = Attempt(claimed.id, claimed.attempt, f"w/{seed}")
            with engine.begin() as db:
                move = mine.randrange(5)
                if move == 0:
                    attempt.retry(db, {"code": "x"}, Backoff(2, 0, 0), 0)
                elif move == 1:
                    attempt.stop(db, "failed", {"code": "x"}, 0)
                elif move == 2:
                    attempt.keep(db, 500)
                    attempt.drain(db, 0)
                elif move == 3:
                    attempt.publish(db, {}, [{"name": "a", "size": mine.randrange(1000)}], 0)
                # else it is lost

    def play_coordinator(_: int) -> None:
        for _ in range(20):
            with suppress(OperationalError):  # two that book for many owners may cross; its loop tries again
                with engine.begin() as db:
                    expire(db, 0)
                with engine.begin() as db:
                    reap_worker(db, BUDGET, f"w/{chance.randrange(4)}")
                purge(engine)

    with ThreadPoolExecutor(6) as pool:
        playing = [pool.submit(play_worker, seed) for seed in range(4)]
        playing += [pool.submit(play_coordinator, n) for n in range(2)]
        for _ in range(5):
            wanted = [
                {
                    "owner": chance.choice(owners),
                    "stored_bytes": chance.randrange(200),
                    "quotas": Quotas(10_000),
                    "deadline": chance.choice([0, 3600]),
                }
                for _ in range(40)
            ]
            answers = submit_all(on_two_gateways, *wanted, submitters=8)
            assert all(isinstance(answer, (Receipt, QuotaExceeded)) for answer in answers)
        for play in playing:
            play.result()
    for owner in owners:
        assert scalar(engine, STORED, owner=owner) == scalar(engine, BOOKED, owner=owner)
    ended = "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND owner = ANY(:owners)"
    counted = "SELECT sum(completed + failed + cancelled + expired) FROM usage_days WHERE owner = ANY(:owners)"
    assert scalar(engine, ended, owners=owners) == scalar(engine, counted, owners=owners)


# Over HTTP, with two gateways and a worker.


@pytest.fixture(scope="module")
def web() -> Iterator[Server]:
    with serving({"/a.png": reply(PNG)}, OUTSIDE) as server:
        yield server


@pytest.fixture(scope="module")
def platforms(
    environment: dict[str, str], web: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Platform]]:
    way_out = {"ATELIER_EGRESS_PORTS": str(web.port), "ATELIER_EGRESS_NETWORKS": f"{OUTSIDE}/32"}
    quick = {"ATELIER_PURGE_GRACE_SECONDS": "0.1", "ATELIER_REAP_SECONDS": "0.1"}
    served = environment | AUTH | way_out | quick | {"ATELIER_FREE_GPU_SECONDS": "0", "ATELIER_QUEUE_SIZE": "0"}
    with two_gateways(served, tmp_path_factory.mktemp) as platforms:
        yield platforms


@pytest.fixture
def person(platforms: list[Platform], environment: dict[str, str]) -> Person:
    execute(environment, "DELETE FROM attempts")
    return register(platforms[0].client, next(names))


@pytest.fixture
def kept(database_url: str, storage_url: str) -> Iterator[Kept]:
    kept = Kept(database_url, storage_url)
    yield kept
    kept.close()


def set_quota(environment: dict[str, str], person: Person, quota: str, value: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.admin", "quota", person.name, quota, value]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


def stamp(platform: Platform, person: Person, picture: Any = None) -> httpx.Response:
    """Post a job with a picture."""
    address = f"{platform.client.base_url}/toys/stamp"
    if picture is not None:
        return httpx.post(address, json={"picture": picture}, headers=person.headers, timeout=60)
    return httpx.post(address, files={"picture": ("a.png", PNG, "image/png")}, headers=person.headers, timeout=60)


def test_forty_clients_get_exactly_what_the_operator_gave(
    platforms: list[Platform], environment: dict[str, str], person: Person, kept: Kept
) -> None:
    before = kept.files()
    given = set_quota(environment, person, "stored_bytes", str(5 * len(PNG) + 1))
    assert given.returncode == 0, given.stderr
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda n: stamp(platforms[n % 2], person), range(40)))
    assert sorted(answer.status_code for answer in answers) == [202] * 6 + [429] * 34
    refused = next(answer for answer in answers if answer.status_code == 429).json()
    assert refused["error"] == "quota_exceeded"
    assert (refused["details"]["used"], refused["details"]["limit"]) == (6 * len(PNG), 5 * len(PNG) + 1)
    assert "delete" in refused["message"]
    assert len(kept.files()) == len(before) + 6, "what was refused left nothing"
    assert httpx.get(f"{platforms[0].client.base_url}/jobs", headers=person.headers).status_code == 200
    assert set_quota(environment, person, "stored_bytes", "tier").returncode == 0
    assert stamp(platforms[0], person).status_code == 202


def test_the_operator_takes_only_numbers_and_known_names(environment: dict[str, str], person: Person) -> None:
    for value in ("-1", "much", "1.5", str(2**63)):
        assert set_quota(environment, person, "gpu_seconds", value).returncode == 2
    nobody = set_quota(environment, Person(person.client, "nobody-here", {}), "gpu_seconds", "1")
    assert (nobody.returncode, nobody.stderr.strip()) == (1, "There is no account with this name.")


def test_results_and_fetched_files_count_and_deleting_makes_room(
    platforms: list[Platform], environment: dict[str, str], person: Person, web: Server, kept: Kept
) -> None:
    platforms[0].start("coordinator")
    platforms[0].processes["worker"] = subprocess.Popen(
        [sys.executable, "-m", "workers"], env=platforms[0].environment, cwd=ROOT, start_new_session=True
    )
    job = stamp(platforms[0], person, f"http://{OUTSIDE}:{web.port}/a.png").json()

    def status() -> str:
        return str(platforms[0].client.get(job["status_url"], headers=person.headers).json()["status"])

    wait_until(lambda: status() == "completed", 120, "a stamped picture")
    files = [path for path in kept.everything(job["job_id"]) if path.is_file()]
    lying = sum(path.stat().st_size for path in files)
    assert lying > 2 * len(PNG), "the picture, its copy and the stamp"
    owner = platforms[0].client.get("/auth/profile", headers=person.headers).json()["user"]["id"]
    booked = "SELECT stored_bytes, gpu_seconds > 0 FROM usage_now WHERE owner = %s"
    assert execute(environment, booked, owner) == [(lying, True)]
    set_quota(environment, person, "stored_bytes", "1")
    assert stamp(platforms[1], person).status_code == 429
    assert platforms[1].client.delete(f"/jobs/{job['job_id']}", headers=person.headers).status_code == 204
    wait_until(lambda: stamp(platforms[1], person).status_code == 202, 60, "room")
