"""Workers that die, stop, hang, and are sent away."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.faults.history import History
from tests.faults.load import keeping_busy, submit, submitting
from tests.faults.rig import Member, Rig
from tests.platform import TERMINAL, wait_until

LEASE = 2.0
FIRST = "SELECT 1 FROM jobs WHERE id = %s AND state = 'running' AND attempt = 1"
NOTICED = "Warm shutdown"
# A batch of 20 at one worker, whose grace period is long enough for what is to fit into it.
CREW = {
    "ATELIER_EXTRA_FAMILIES": "tests.toys.family,tests.toys.crew",
    "ATELIER_FAMILIES": "toy,crew",
    "ATELIER_DRAIN_SECONDS": "30",
}
Size = Callable[[int, int], int]


# At which passage a child is killed: it does some jobs before that one. W1 is passed once a doorbell, W3 once a step.
KILLED_AT = {"W1": 2, "W2": 4, "W3": 11, "W4": 4, "W5": 7, "W6": 4, "W7": 4}


@pytest.mark.parametrize(
    "place",
    [place if place in ("W2", "W5", "W6") else pytest.param(place, marks=pytest.mark.whole) for place in KILLED_AT],
)
def test_killed_at(place: str, rig: Rig, history: History, size: Size) -> None:
    """Children of both workers are killed at a place, again and again"""
    workers = rig.members("worker")
    rig.start("worker-1", "worker-2", failpoints=f"{place}=kill@{KILLED_AT[place]}")
    while min(len(worker.passed(place)) for worker in workers) < size(1, 10):
        submit(history, 1 if place == "W1" else 6)  # a worker that has more to do hears no doorbell
        history.ended()
    rig.faults += rig.passages(place)
    assert set(history.states().values()) == {"completed"}
    history.client().result(history.jobs[0])
    history.verify()


def test_an_unexpected_error_at_every_place(rig: Rig, history: History, size: Size) -> None:
    """An error that nobody expects, once at each place of both workers"""
    places = [f"W{number}=raise@{passage}" for number, passage in enumerate((2, 2, 7, 2, 5, 3, 2), start=1)]
    rig.start("worker-1", "worker-2", failpoints=",".join(places))
    submit(history, size(20, 100))
    history.ended()
    rig.faults += [at for number in range(1, 8) for at in rig.passages(f"W{number}")]
    assert rig.passages("W7")
    assert set(history.states().values()) == {"completed"}
    history.verify()


def test_killed_by_chance(rig: Rig, history: History, size: Size) -> None:
    """kill -9, by chance, of a child, its parent, or both, while it runs a job; of one worker after the other"""

    def child(worker: Member) -> None:
        os.kill(worker.child().pid, signal.SIGKILL)

    def parent(worker: Member) -> None:
        worker.signal(signal.SIGKILL)

    def machine(worker: Member) -> None:
        worker.signal(signal.SIGKILL, group=True)

    seed = time.time_ns()
    print(f"chance has the seed {seed}")
    chance, turns = random.Random(seed), itertools.cycle(rig.members("worker"))
    with keeping_busy(history, 6, steps=8, step_seconds=0.05):
        while (lost := _lost(rig, history)) < size(3, 30) or len(history.jobs) < size(0, 300):
            worker, kill = next(turns), chance.choice([child, parent, machine])
            job = _caught(rig, worker, lambda worker=worker, kill=kill: kill(worker))
            if kill is not child:
                wait_until(lambda worker=worker: worker.has_ended, 180, "the worker's end")
                rig.supervise()
            wait_until(lambda job=job: not rig.postgres.rows(FIRST, job), 180, "the job to be taken away")
            print(f"{kill.__name__} of {worker.name}, {lost} were lost before")
            more = len(history.jobs) + size(0, 8)
            wait_until(lambda more=more: len(history.jobs) >= more, 180, "others to complete")
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


@pytest.mark.whole
def test_stopped_for_three_leases(rig: Rig, history: History, size: Size) -> None:
    """SIGSTOP of a worker and its child for three leases"""
    jobs = submit(history, size(8, 40), steps=10)
    wait_until(lambda: _held(rig, "worker-1", jobs), 180, "a job at worker-1")
    rig.broke()
    with rig["worker-1"].stopped():
        stopped_at = time.monotonic()
        wait_until(lambda: time.monotonic() > stopped_at + 3 * LEASE, 180, "three leases")
        wait_until(lambda: not _held(rig, "worker-1", jobs), 180, "its job taken away")
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


def test_poison_among_good_jobs(rig: Rig, history: History, size: Size) -> None:
    """Segfaults, os._exit, SIGKILL, a hung C call with and without a living interpreter, among good jobs"""
    allowed = {"ATELIER_MAX_CRASHES": "2", "ATELIER_STALL_SECONDS": "4"}
    rig.start("worker-1", "worker-2", "coordinator-1", "coordinator-2", **allowed)
    good = submit(history, size(6, 50))
    poison = [
        submit(history, 1, fail=fail)[0] for fail in ("segfault", "exit", "crash", "hang_in_c", "hang_with_the_lock")
    ]
    rig.broke()
    good += submit(history, size(6, 50))
    history.ended()
    states, client = history.states(), history.client()
    assert {states[job] for job in good} == {"completed"}
    for job in poison:
        told = client.status(job)
        assert (told["status"], told["error"]["code"], told["attempt"]) == ("failed", "worker_lost", 2)
    history.verify()


def test_a_job_that_crashes_once_completes(rig: Rig, history: History) -> None:
    """A job that kills its worker's child at the first try"""
    rig.broke()
    [job] = submit(history, 1, fail="crash_once")
    history.ended()
    assert history.client().status(job)["attempt"] == 2
    history.verify()


@pytest.mark.parametrize("group", [False, True], ids=["to its parent", "to the group"])
def test_sigterm_and_work_that_fits_the_grace_period(
    group: bool, rig: Rig, history: History, size: Size, tmp_path: Path
) -> None:
    """SIGTERM to a worker with 20 jobs, while 200 wait: what fits the grace period is finished, no more is taken"""
    worker, go_on = rig["worker-1"], tmp_path / "go on"
    crew, waiting = _crew_at_work(rig, history, size, until=str(go_on))
    rig.broke()
    worker.signal(signal.SIGTERM, group=group)
    wait_until(lambda: worker.said().count(NOTICED) == 1, 180, "the signal to be noticed")
    go_on.touch()
    assert worker.ended() == 0
    assert _counted(rig, crew) == {("completed", 1, 0, 0, 0)}
    assert _counted(rig, waiting) == {("queued", 0, 0, 0, 0)}
    _all_complete(rig, history)


@pytest.mark.parametrize("group", [False, True], ids=["to its parent", "to the group"])
def test_sigterm_and_work_beyond_the_grace_period(group: bool, rig: Rig, history: History, size: Size) -> None:
    """SIGTERM to a worker with 20 jobs, while 200 wait: those that do not fit the grace period are handed back"""
    worker = rig["worker-1"]
    crew, waiting = _crew_at_work(rig, history, size, steps=1000, step_seconds=0.1)
    _steps(history, crew[-1])
    rig.broke()
    worker.signal(signal.SIGTERM, group=group)
    assert worker.ended() == 0
    assert _counted(rig, crew) == {("queued", 1, 0, 0, 1)}
    assert _counted(rig, waiting) == {("queued", 0, 0, 0, 0)}
    assert {history.client().cancel(job) for job in crew} == {200}
    rig.start("worker-1", "worker-2", **CREW)
    history.ended()
    assert {history.states()[job] for job in waiting} == {"completed"}
    history.verify()


@pytest.mark.parametrize("group", [pytest.param(False, marks=pytest.mark.whole), True], ids=["parent", "group"])
def test_a_second_sigterm(group: bool, rig: Rig, history: History, size: Size, tmp_path: Path) -> None:
    """A second SIGTERM to a worker with 20 jobs: it waits for none of them, all are handed back at their next step"""
    worker, go_on = rig["worker-1"], tmp_path / "go on"
    crew, waiting = _crew_at_work(rig, history, size, until=str(go_on))
    for times in (1, 2):
        rig.broke()
        worker.signal(signal.SIGTERM, group=group)
        wait_until(lambda times=times: worker.said().count(NOTICED) == times, 180, "the signal to be noticed")
    assert worker.ended() == 0
    assert _counted(rig, crew) == {("queued", 1, 0, 0, 1)}
    assert _counted(rig, waiting) == {("queued", 0, 0, 0, 0)}
    go_on.touch()
    _all_complete(rig, history)


def test_cancels_by_the_dozen(rig: Rig, history: History, size: Size) -> None:
    """Cancels at every moment of a job's life, while children are killed"""
    client = history.client()
    with submitting(history, size(16, 200), pause=0.01):
        answers = []
        for number in range(size(8, 100)):
            wait_until(lambda number=number: len(history.jobs) > 2 * number, 180, "a job to cancel")
            answers.append(client.cancel(history.jobs[2 * number]))
            if number % 8 == 4:
                rig.broke()
                os.kill(rig["worker-1"].child().pid, signal.SIGKILL)
    history.ended()
    assert {200, 202, 409} >= set(answers)
    assert {"completed", "cancelled"} == set(history.states().values())
    history.verify()


@pytest.mark.whole
def test_a_runner_that_does_not_listen(rig: Rig, history: History) -> None:
    """A cancelled job whose runner does not look: its process is ended after half a minute"""
    [deaf] = submit(history, 1, fail="deaf", steps=600, step_seconds=0.1)
    wait_until(lambda: history.states()[deaf] == "running", 180, "the deaf job to run")
    rig.broke()
    assert history.client().cancel(deaf) == 202
    history.ended()
    history.verify()


def test_a_deaf_worker_ends_itself(rig: Rig, history: History) -> None:
    """A worker that no longer listens to Redis"""
    rig["worker-2"].kill()
    rig.start("worker-1", ATELIER_DEAF_SECONDS="1")
    worker = rig["worker-1"]
    with Celery(broker=rig.redis.url) as celery:
        # A broadcast that comes before the worker subscribed is heard by nobody.
        wait_until(lambda: celery.control.cancel_consumer("atelier.toy", reply=True), 180, "the worker's answer")
    rig.broke()
    submit(history, 1)

    def ended() -> bool:
        # The read that was under way when it was told may still bring it one doorbell: then another is rung.
        if history.states()[history.jobs[-1]] in TERMINAL:
            submit(history, 1)
        return worker.has_ended

    wait_until(ended, 180, "the worker's own end")
    assert worker.exit_code == 1
    assert "hears no doorbells" in worker.said()
    rig.start("worker-1")
    history.ended()
    history.verify()


def _caught(rig: Rig, worker: Member, kill: Callable[[], None]) -> str:
    """Kill while it stands still with a job that was never lost before; that job."""
    held = "SELECT id::text FROM jobs WHERE state = 'running' AND attempt = 1 AND lease_owner LIKE %s"
    while True:
        wait_until(lambda: rig.postgres.rows(held, f"%-{worker.pid}/%"), 180, f"a job at {worker.name}")
        with worker.stopped():
            if jobs := rig.postgres.rows(held, f"%-{worker.pid}/%"):
                rig.broke()
                kill()
                return str(jobs[0][0])


def _lost(rig: Rig, history: History) -> int:
    """Attempts that ended with their worker."""
    counted = "SELECT coalesce(sum(crashes), 0)::int FROM jobs WHERE id = ANY(%s::uuid[])"
    return int(rig.postgres.rows(counted, history.jobs)[0][0])


@pytest.mark.whole
def test_a_child_that_hangs_before_its_claim(rig: Rig, history: History) -> None:
    """A worker whose child stands still between a doorbell and its claim, where it holds nothing that could expire"""
    rig["worker-2"].kill()
    rig.start("worker-1", failpoints="W1=stop@1")
    worker = rig["worker-1"]
    jobs = submit(history, 4)
    wait_until(lambda: worker.has_ended, 180, "the worker's own end")
    rig.faults += worker.passed("W1")
    assert len(rig.faults) == 1
    assert worker.exit_code == 1
    assert "hears no doorbells" in worker.said()
    rig.start("worker-1")
    history.ended()
    assert _counted(rig, jobs) == {("completed", 1, 0, 0, 0)}
    history.verify()


def _crew_at_work(rig: Rig, history: History, size: Size, **more: Any) -> tuple[list[str], list[str]]:
    """A batch that runs at the only worker, and jobs that wait for it."""
    rig.start(*(member.name for kind in ("gateway", "coordinator") for member in rig.members(kind)), **CREW)
    for worker in rig.members("worker"):
        worker.kill()
    crew = submit(history, size(3, 20), path="/crew/row", **{"steps": 0} | more)
    rig.start("worker-1", **CREW)
    wait_until(lambda: _counted(rig, crew) == {("running", 1, 0, 0, 0)}, 180, "the batch to run")
    return crew, submit(history, size(6, 200))


def _counted(rig: Rig, jobs: list[str]) -> set[tuple[Any, ...]]:
    """What is true of at least one of them."""
    counted = "SELECT DISTINCT state, attempt, failures, crashes, drains FROM jobs WHERE id = ANY(%s::uuid[])"
    return set(rig.postgres.rows(counted, jobs))


def _all_complete(rig: Rig, history: History) -> None:
    rig.start("worker-1", "worker-2", **CREW)
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


def _held(rig: Rig, name: str, jobs: list[str]) -> bool:
    held = "SELECT 1 FROM jobs WHERE state = 'running' AND lease_owner LIKE %s AND id = ANY(%s::uuid[])"
    return bool(rig.postgres.rows(held, f"%-{rig[name].pid}/%", jobs))


def _steps(history: History, job: str) -> None:
    """Return while it runs and has told a step."""
    client = history.client()
    wait_until(lambda: (told := client.status(job))["status"] == "running" and told["step"], 180, f"steps of {job}")
