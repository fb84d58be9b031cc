"""Each process killed, and Redis wiped, in the middle of 20 jobs: every job completes exactly once, byte for byte."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import zipfile
from collections.abc import Callable, Iterator

import psycopg2
import pytest
import redis
from celery import Celery

from tests.platform import TERMINAL, Platform, kill_child, wait_until
from tests.toys.runner import content

JOBS, SIZE = 20, 200_000


@pytest.fixture
def platform(environment: dict[str, str], tmp_path) -> Iterator[Platform]:
    # A job may meet several crashes here: the tests kill more than once.
    platform = Platform({**environment, "ATELIER_MAX_CRASHES": "5", "ATELIER_MAX_FAILURES": "6"}, tmp_path)
    try:
        platform.start()
        if not platform.client.get("/webhooks").json()["webhooks"]:
            platform.client.post("/webhooks", json={"url": "https://receiver.invalid"}).raise_for_status()
        yield platform
    finally:
        platform.close()


def kill_the_child(platform: Platform) -> None:
    kill_child(platform)


def kill_the_worker(platform: Platform) -> None:
    child = platform.child()
    platform.kill("worker")
    os.kill(child.pid, signal.SIGKILL)  # the machine went away: nobody is left to finish
    platform.start("worker")


def kill_the_worker_but_not_its_child(platform: Platform) -> None:
    platform.kill("worker")
    platform.start("worker")


def kill_the_coordinator(platform: Platform) -> None:
    platform.kill("coordinator")
    platform.start("coordinator")


def kill_the_gateway(platform: Platform) -> None:
    platform.kill("gateway")
    platform.start("gateway")


def wipe_redis(platform: Platform) -> None:
    with redis.Redis.from_url(platform.environment["REDIS_URL"]) as client:
        client.flushall()


FAULTS = [
    kill_the_child,
    kill_the_worker,
    kill_the_worker_but_not_its_child,
    kill_the_coordinator,
    kill_the_gateway,
    wipe_redis,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_job_completes_exactly_once(platform: Platform, fault: Callable[[Platform], None]) -> None:
    body = {"steps": 5, "step_seconds": 0.04, "files": 1, "size": SIZE}
    jobs = [platform.submit(**body, seed=100 + n) for n in range(JOBS)]
    wait_until(lambda: platform.status(jobs[3])["status"] == "completed", what="some jobs done")
    platform.running_any(jobs)
    fault(platform)
    for number, job_id in enumerate(jobs):
        assert platform.finished(job_id, 60)["status"] == "completed"
        archive = zipfile.ZipFile(io.BytesIO(platform.client.get(f"/results/{job_id}").content))
        assert archive.read("file_0.bin") == content(100 + number, SIZE)
    assert_history_is_true(platform, jobs)


def assert_history_is_true(platform: Platform, jobs: list[str]) -> None:
    """One event a job; the manifest names one attempt's files, and its checksums are those of the bytes."""
    connection = psycopg2.connect(platform.environment["DATABASE_URL"])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT job_id::text FROM deliveries WHERE job_id = ANY(%s::uuid[])", (jobs,))
            assert sorted(row[0] for row in cursor.fetchall()) == sorted(jobs)
            cursor.execute("SELECT result_attempt, attempt, manifest FROM jobs WHERE id = ANY(%s::uuid[])", (jobs,))
            for result_attempt, attempt, manifest in cursor.fetchall():
                assert 1 <= result_attempt <= attempt
                assert all(f"/{result_attempt}/" in entry["key"] for entry in manifest)
                assert all(len(entry["sha256"]) == hashlib.sha256().digest_size * 2 for entry in manifest)
    finally:
        connection.close()


def test_sigterm_drains_without_counting_a_failure(platform: Platform) -> None:
    short = platform.submit(steps=10, step_seconds=0.1)
    platform.running(short)
    assert platform.terminate("worker") == 0
    assert platform.status(short)["status"] == "completed", "what fits the grace period is finished"

    platform.start("worker")
    long = platform.submit(steps=100, step_seconds=0.1)
    platform.running(long)
    platform.terminate("worker")
    handed_back = platform.status(long)
    assert handed_back["status"] == "queued"
    platform.start("worker")
    platform.running(long)
    connection = psycopg2.connect(platform.environment["DATABASE_URL"])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT failures, crashes, drains FROM jobs WHERE id = %s", (long,))
            assert cursor.fetchone() == (0, 0, 1)
    finally:
        connection.close()
    platform.client.post(f"/jobs/{long}/cancel")
    assert platform.finished(long)["status"] == "cancelled"


def test_a_poison_job_fails_and_its_neighbours_live(environment: dict[str, str], tmp_path) -> None:
    platform = Platform(environment, tmp_path)
    try:
        platform.start()
        poison, neighbour = platform.submit(fail="crash"), platform.submit(say="alive")
        ended = platform.finished(poison, 60)
        assert (ended["status"], ended["error"]["code"], ended["attempt"]) == ("failed", "worker_lost", 2)
        assert platform.finished(neighbour, 60)["status"] == "completed"
        recovered = platform.submit(fail="crash_once")
        assert platform.finished(recovered, 60)["status"] == "completed"
    finally:
        platform.close()


def test_a_deaf_worker_ends_itself(environment: dict[str, str], tmp_path) -> None:
    platform = Platform({**environment, "ATELIER_DEAF_SECONDS": "1"}, tmp_path)
    try:
        platform.start()
        celery = Celery(broker=environment["REDIS_URL"])
        # Alive, but it no longer listens. A broadcast that comes before the worker subscribed is heard by nobody.
        wait_until(lambda: celery.control.cancel_consumer("atelier.toy", reply=True), 30, "the worker's answer")
        worker, jobs = platform.processes["worker"], [platform.submit()]

        def ended() -> bool:
            # The read that was under way when it was told may still bring it one doorbell: then another is rung.
            if platform.status(jobs[-1])["status"] in TERMINAL:
                jobs.append(platform.submit())
            return worker.poll() is not None

        wait_until(ended, 40, "the worker's own end")
        assert worker.returncode == 1
        job = jobs[-1]
        assert "hears no doorbells" in (tmp_path / "worker.log").read_text()
        del platform.environment["ATELIER_DEAF_SECONDS"]  # a busy machine takes longer than that to load the next child
        platform.start("worker")
        assert platform.finished(job)["status"] == "completed"
        celery.close()
    finally:
        platform.close()


def test_a_hung_job_is_ended_by_its_own_process(environment: dict[str, str], tmp_path) -> None:
    platform = Platform({**environment, "ATELIER_STALL_SECONDS": "1", "ATELIER_MAX_CRASHES": "1"}, tmp_path)
    try:
        platform.start()
        ended = platform.finished(platform.submit(fail="hang"), 60)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "worker_lost")
    finally:
        platform.close()
