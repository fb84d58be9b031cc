"""Moments at which exactly one rule of the product decides, brought about without luck: by stops, files, doorbells."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from shared.queue import TASK
from tests.faults.history import History, say
from tests.faults.rig import Member
from tests.garbage import QUEUE
from tests.platform import wait_until

FILES = {"files": 2, "size": 1000, "marked": True}


def zombie_publishes(history: History, code: Path) -> None:
    """A worker stops before it publishes, loses its lease, and publishes while the next attempt runs."""
    gate = _gate(history, shut=True)
    with _zombie_at("W6", history, code, gate) as zombie:
        _row(history, lambda row: row == ("running", 2))
    _has_given_up(zombie)
    gate.touch()
    history.ended()


def zombie_uploads(history: History, code: Path) -> None:
    """A worker stops before it uploads, loses its lease, and uploads when the next attempt has published."""
    with _zombie_at("W4", history, code, _gate(history, shut=True)) as zombie:
        _gate(history).touch()
        history.ended()
    _has_given_up(zombie)


def cancel_before_publishing(history: History, code: Path) -> None:
    """A cancel is accepted when the files are uploaded already; nobody is there who could take the job away."""
    rig, client, gate = history.rig, history.client(), _gate(history, shut=True)
    worker = rig["worker-1"]
    rig["worker-2"].kill()
    rig.start("worker-1", failpoints="W6=stop@1", code=code)
    job = client.submit(**FILES, until=str(gate), say=say(1))
    _row(history, lambda row: row == ("running", 1))
    for coordinator in rig.members("coordinator"):
        coordinator.kill()
    worker.signal(signal.SIGSTOP)
    gate.touch()
    worker.waits_at("W6")
    assert client.cancel(job) == 202
    worker.child().send_signal(signal.SIGCONT)  # its parent would end a child that lost its lease
    history.ended()
    rig.start("coordinator-1", "coordinator-2")


def forged_doorbell(history: History, code: Path) -> None:
    """A doorbell rings for a job that runs."""
    rig, client = history.rig, history.client()
    rig.start("worker-1", "worker-2", failpoints="W1=sleep:0.001", code=code)  # which tells that a bell was heard
    gate = _gate(history, shut=True)
    client.submit(**FILES, until=str(gate), say=say(1))
    _row(history, lambda row: row[0] == "running")  # a dispatcher that rings again may have shown the mutant already
    ring(history, history.jobs[0], times=2)
    # When the second is heard, the first has been answered; or whoever heard the first has taken the job.
    wait_until(lambda: len(rig.passages("W1")) >= 3 or _rows(history) != [("running", 1)], 180, "two bells heard")
    gate.touch()
    history.ended()


def cancel_and_claim(history: History, code: Path, hole: Path) -> None:
    """A worker claims a job while it is cancelled."""
    rig, client = history.rig, history.client()
    rig.start("gateway-1", "gateway-2", code=code)
    hole.touch()
    with ExitStack() as stack:
        for worker in rig.members("worker"):
            stack.enter_context(worker.stopped())
        job = client.submit(**FILES, say=say(1))
        cancelling = threading.Thread(target=client.cancel, args=(job,))
        cancelling.start()
        wait_until(lambda: Path(f"{hole}.reached").exists() or not cancelling.is_alive(), 180, "a cancel under way")
    _row(history, lambda row: row[0] != "queued")
    hole.unlink()
    cancelling.join()
    history.ended()


def two_submits_for_one_place(history: History, code: Path) -> None:
    """Two gateways count at the same moment."""
    rig, client = history.rig, history.client()
    gateways = rig.members("gateway")
    rig.start(*(g.name for g in gateways), failpoints="G1=stop@1", code=code, ATELIER_MAX_LIVE_JOBS="1")
    history.live_jobs = 1
    with ExitStack() as stack:
        for worker in rig.members("worker"):
            stack.enter_context(worker.stopped())
        posts = []
        for number, gateway in enumerate(gateways):
            post = threading.Thread(target=client.post_once, kwargs={"gateway": number, "say": say(number)})
            post.start()
            posts.append(post)
            wait_until(
                lambda post=post, gateway=gateway: gateway.is_stopped or not post.is_alive(), 180, "a post under way"
            )
        for gateway in gateways:
            gateway.signal(signal.SIGCONT, group=True)
        for post in posts:
            post.join()
    history.ended()


def ring(history: History, job: str, times: int = 1, queue: str = QUEUE, **more: Any) -> None:
    """Doorbells that nobody of the platform sent."""
    with Celery("forger", broker=history.rig.redis.url) as celery:
        for number in range(times):
            celery.send_task(TASK, args=(job,), task_id=f"{job}.{1000 + number}", queue=queue, **more)


@contextmanager
def _zombie_at(place: str, history: History, code: Path, gate: Path) -> Iterator[Member]:
    """A job's first worker, which stands still at this place and lost its lease; it goes on after the block."""
    rig, client = history.rig, history.client()
    zombie = rig["worker-1"]
    rig["worker-2"].kill()
    rig.start("worker-1", failpoints=f"{place}=stop@1", code=code)
    client.submit(**FILES, until=str(gate), say=say(1))
    _row(history, lambda row: row == ("running", 1))
    zombie.signal(signal.SIGSTOP)  # its parent first: it would end a child that lost its lease
    gate.touch()
    zombie.waits_at(place)
    gate.unlink()
    rig.start("worker-2", code=code)
    _row(history, lambda row: row[1] == 2)
    yield zombie
    zombie.signal(signal.SIGCONT, group=True)


def _has_given_up(zombie: Member) -> None:
    """Return when it has come to the end of its attempt, whatever end: then Celery's task is over."""
    wait_until(lambda: "succeeded in" in zombie.said(), 180, "the zombie's end")


def _gate(history: History, shut: bool = False) -> Path:
    """The file that the jobs of this history wait for."""
    gate = history.rig.folder / f"gate-{id(history)}"
    if shut:
        gate.unlink(missing_ok=True)
    return gate


def _rows(history: History) -> list[tuple[str, int]]:
    return history.rig.postgres.rows("SELECT state, attempt FROM jobs WHERE id = ANY(%s::uuid[])", history.jobs)


def _row(history: History, wanted: Callable[[tuple[str, int]], bool]) -> None:
    wait_until(lambda: wanted(_rows(history)[0]), 180, "the scene")
