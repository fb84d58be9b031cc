"""What ends a worker's child, and what does not: its parent's signals, and those that are sent to all at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from redis import Redis

from shared.queue import TASK
from tests.integration.test_accounts import execute
from tests.platform import Platform, wait_until

QUEUE = "atelier.toy"


@pytest.fixture(scope="module")
def everything(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    toys = {"ATELIER_FAMILIES": "toy", "DEVICE": "cpu", "ATELIER_MAX_CRASHES": "3", "ATELIER_REAP_SECONDS": "600"}
    platform = Platform(environment | toys, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


@pytest.fixture
def celery(everything: Platform) -> Iterator[Celery]:
    with Celery(broker=everything.environment["REDIS_URL"]) as app:
        yield app


@pytest.fixture
def platform(everything: Platform, celery: Celery) -> Platform:
    """With a worker that is idle, its doorbells answered."""
    if everything.processes["worker"].poll() is not None:
        everything.start("worker")
    everything.finished(everything.submit())
    with Redis.from_url(everything.environment["REDIS_URL"]) as redis:
        wait_until(lambda: not redis.llen(QUEUE) and active(celery) == [], 60, "an idle worker")
    return everything


def active(celery: Celery) -> list[str] | None:
    """The ids of the tasks that run; None if the worker does not say."""
    told = celery.control.inspect().active()
    return told and [task["id"] for tasks in told.values() for task in tasks]


def counts(platform: Platform, job: str) -> dict[str, int]:
    """What its attempts came to, without what is zero."""
    [row] = execute(platform.environment, f"SELECT failures, crashes, drains FROM jobs WHERE id = '{job}'")
    return {name: count for name, count in zip(("failures", "crashes", "drains"), row, strict=True) if count}


@pytest.mark.parametrize(("steps", "came_to"), [(10, {}), (1000, {"drains": 1})], ids=["short", "long"])
def test_sigterm_to_all_processes_of_a_worker_harms_no_job(
    platform: Platform, steps: int, came_to: dict[str, int]
) -> None:
    job = platform.submit(steps=steps, step_seconds=0.1)
    platform.running(job)
    worker = platform.processes["worker"]
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait(30) == 0
    assert platform.status(job)["status"] == ("queued" if came_to else "completed")
    assert counts(platform, job) == came_to
    platform.client.post(f"/jobs/{job}/cancel")


def test_a_child_does_not_heed_sigterm(platform: Platform) -> None:
    job = platform.submit(steps=10, step_seconds=0.1)
    platform.running(job)
    platform.child().terminate()
    assert platform.finished(job)["attempt"] == 1
    assert counts(platform, job) == {}


def by_revoking(_: Platform, celery: Celery) -> None:
    celery.control.revoke(active(celery), terminate=True)


def by_a_cold_shutdown(platform: Platform, _: Celery) -> None:
    worker = platform.processes["worker"]
    worker.send_signal(signal.SIGQUIT)
    worker.wait(20)


@pytest.mark.parametrize("end", [by_revoking, by_a_cold_shutdown])
def test_a_child_is_ended_by_its_parent(
    platform: Platform, celery: Celery, end: Callable[[Platform, Celery], None]
) -> None:
    job = platform.submit(fail="deaf", steps=300, step_seconds=0.1)
    wait_until(lambda: platform.status(job)["status"] == "running", 60, "the job to run")
    child = platform.child()
    end(platform, celery)
    child.wait(15)
    platform.client.post(f"/jobs/{job}/cancel")


def test_a_child_is_ended_at_its_time_limit(platform: Platform, celery: Celery) -> None:
    child = platform.child()
    platform.processes["coordinator"].send_signal(signal.SIGSTOP)  # else it rings with the family's limit
    try:
        job = platform.submit(fail="deaf", steps=300, step_seconds=0.1)
        celery.send_task(TASK, args=(job,), queue=QUEUE, time_limit=1)
        child.wait(60)
    finally:
        platform.processes["coordinator"].send_signal(signal.SIGCONT)
    platform.client.post(f"/jobs/{job}/cancel")
    assert platform.finished(job)["status"] == "cancelled"
