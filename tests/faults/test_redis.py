"""Redis that dies, forgets, freezes, is full, lies: it holds nothing that matters, so jobs are late at the worst."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import redis

from tests.faults.history import History
from tests.faults.load import Fault, named, seldom, submit, submitting
from tests.faults.rig import Member, Rig
from tests.faults.scenarios import ring
from tests.garbage import GARBAGE, QUEUE
from tests.platform import wait_until

Size = Callable[[Any, Any], Any]


@contextmanager
def asked(rig: Rig) -> Iterator[redis.Redis]:
    """A connection past all links."""
    with redis.Redis.from_url(rig.redis.url) as client:
        yield client


def killed(rig: Rig, seconds: float) -> None:
    rig.redis.kill()
    time.sleep(seconds)
    rig.redis.start()


def killed_and_empty(rig: Rig, seconds: float) -> None:
    """As one without an append-only file comes back."""
    with asked(rig) as client:
        client.flushall()
        client.config_set("appendonly", "no")
        rig.redis.kill()
    time.sleep(seconds)
    rig.redis.start()


def wiped(rig: Rig, seconds: float) -> None:
    """All the time for a second, and then every 5 s."""
    began = time.monotonic()
    with asked(rig) as client:
        while (passed := time.monotonic() - began) < seconds:
            client.flushall()
            time.sleep(0.2 if passed < 1 else 5)


def frozen(rig: Rig, seconds: float) -> None:
    with rig.redis.frozen():
        time.sleep(seconds)


def half_open(rig: Rig, seconds: float) -> None:
    """All connections go silent for good, and nobody tells the platform that new ones would work."""
    for link in rig.links("redis"):
        link.vanish()
    time.sleep(seconds)


def reset(rig: Rig, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for link in rig.links("redis"):
            link.reset()
        time.sleep(0.2)


def slow(rig: Rig, seconds: float) -> None:
    for link in rig.links("redis"):
        link.slow(latency=0.1)
    time.sleep(seconds)
    for link in rig.links("redis"):
        link.open()


def full(rig: Rig, seconds: float) -> None:
    with asked(rig) as client:
        client.config_set("maxmemory", 1)
        try:
            time.sleep(seconds)
        finally:
            client.config_set("maxmemory", 0)


def locked(rig: Rig, seconds: float) -> None:
    """The password changed, and everybody must come again."""
    with asked(rig) as client:
        password = client.config_get("requirepass")["requirepass"]
        client.config_set("requirepass", uuid.uuid4().hex)
        try:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)
            time.sleep(seconds)
        finally:
            client.config_set("requirepass", password)


FAULTS = [killed, wiped, frozen, full, *seldom(killed_and_empty, half_open, reset, slow, locked)]
SECONDS = {frozen: 30.0, wiped: 30.0, half_open: 30.0}  # in the whole set, and 8 for all others


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_redis_is(fault: Fault, rig: Rig, history: History, size: Size) -> None:
    """Redis fails for a while"""
    count, seconds = size(8, 150), size(2.0, SECONDS.get(fault, 8.0))
    with submitting(history, count, pause=max(0.05, 1.2 * seconds / count)):
        wait_until(lambda: "completed" in history.states().values(), 180, "a first result")
        rig.broke()
        fault(rig, seconds)
        rig.healed(rig.faults[-1] if fault is half_open else None)  # new connections work all the while
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


def test_doorbells_that_nobody_rang(rig: Rig, history: History, size: Size) -> None:
    """Doorbells forged, doubled, reordered, for other families' queues and for jobs that ended, and pure garbage"""
    workers = {worker.name: worker.pid for worker in rig.members("worker")}
    jobs = submit(history, size(6, 60), steps=8)
    rig.broke()
    for job in reversed(jobs):
        ring(history, job, times=3)
    for nonsense in (str(uuid.uuid4()), "", "no id", "x" * 100_000):
        ring(history, nonsense)
    wait_until(lambda: "completed" in history.states().values(), 180, "a first result")
    ring(history, jobs[0], times=3)
    with asked(rig) as client:
        for garbage in GARBAGE:
            client.rpush(QUEUE, garbage)
            client.publish("/0.celery.pidbox", garbage)
    submit(history, size(4, 40))
    history.ended()
    with asked(rig) as client:
        wait_until(lambda: not client.llen(QUEUE), 180, "the end of the garbage")
    submit(history, size(4, 40))
    history.ended()
    assert set(history.states().values()) == {"completed"}
    assert {worker.name: worker.pid for worker in rig.members("worker")} == workers
    assert not rig.postgres.rows("SELECT 1 FROM jobs WHERE id = ANY(%s::uuid[]) AND crashes > 0", history.jobs)
    history.verify()


REFUSED = "command not allowed when used memory"


def test_workers_look_for_a_redis_that_is_full(rig: Rig, history: History) -> None:
    """Redis is full while workers have to connect: each try that it refuses leaves no connection behind"""
    submit(history, 2)
    history.ended()
    workers = rig.members("worker")
    before = [_connections(worker) for worker in workers]
    tries = [worker.said().count(REFUSED) for worker in workers]
    with asked(rig) as client:
        # One that still ends its job would connect again without a word to Celery, and so without a write.
        wait_until(lambda: _listening(client) == len(workers), 60, "all workers to listen")
        client.config_set("maxmemory", 1)
        rig.broke()
        try:
            client.client_kill_filter(_type="normal", skipme=True)
            for worker, tried in zip(workers, tries, strict=True):
                more = tried + 20
                wait_until(lambda w=worker, n=more: w.said().count(REFUSED) >= n, 60, "tries to connect")
        finally:
            client.config_set("maxmemory", 0)
            rig.healed()
    submit(history, 4)
    history.ended()
    assert all(_connections(worker) <= held + 2 for worker, held in zip(workers, before, strict=True))
    assert set(history.states().values()) == {"completed"}
    history.verify()


def _listening(client: redis.Redis) -> int:
    return sum(other["cmd"] == "brpop" and other["flags"] == "b" for other in client.client_list())


def _connections(worker: Member) -> int:
    return len(psutil.Process(worker.pid).net_connections())
