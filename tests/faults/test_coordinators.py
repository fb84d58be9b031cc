"""Two of each: dispatchers that die before they ring, reapers that sleep, webhook senders that forget to note."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.history import History
from tests.faults.load import submit, submitting
from tests.faults.rig import Rig
from tests.platform import wait_until

Size = Callable[[int, int], int]
EVENTS = "SELECT event_id::text FROM deliveries WHERE job_id = ANY(%s::uuid[])"
WAITING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'atelier-coordinator' AND wait_event_type = 'Lock'"
HALF_WAY = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'idle in transaction'"


def test_killed_before_it_rings(rig: Rig, history: History, size: Size) -> None:
    """A coordinator is killed before it rings for the jobs that it has marked; the other one finds out"""
    first, second = rig.members("coordinator")
    for _ in range(size(1, 20)):
        rig.start(first.name, failpoints="D1=kill@1")
        with second.stopped():
            submit(history, 6)
            wait_until(lambda: first.has_ended, 180, "its end at D1")
            rig.faults += first.passed("D1")
    rig.start(first.name)
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


@pytest.mark.whole
def test_killed_before_it_notes_a_delivery(rig: Rig, history: History) -> None:
    """A coordinator is killed after it sent a webhook, of one of 20 jobs, and before it noted that: it is sent again"""
    first, second = rig.members("coordinator")
    assert rig.receiver
    copies = rig.receiver.copies
    rig.start(first.name, failpoints="H1=kill@1")
    with second.stopped():
        jobs = submit(history, 20)
        wait_until(lambda: first.has_ended, 180, "its end at H1")
        rig.faults += first.passed("H1")
        events = [row[0] for row in rig.postgres.rows(EVENTS, jobs)]
        seen = [event for event in events if event in copies]
        assert seen
    rig.start(first.name)
    history.ended()
    # The lease of a delivery is a minute.
    wait_until(lambda: all(copies[event] > 1 for event in seen), 180, "the second copy")
    print(f"sent again {time.time() - rig.faults[0]:.0f} s after the first time: {len(seen)}")
    assert set(history.states().values()) == {"completed"}
    history.verify()


def test_killed_one_after_the_other(rig: Rig, history: History, size: Size) -> None:
    """kill -9 of a coordinator, one after the other"""
    with submitting(history, size(8, 100)):
        for turn in range(size(2, 10)):
            rig.broke()
            member = rig[f"coordinator-{turn % 2 + 1}"]
            member.signal(signal.SIGKILL)
            wait_until(lambda member=member: member.has_ended, 180, "its end")
            member.again()
            wait_until(lambda member=member: rig.serves(member), 180, "it to serve")
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


@pytest.mark.whole
def test_a_reaper_sleeps_within_its_transaction(rig: Rig, history: History, size: Size) -> None:
    """A worker dies; one of two reapers is stopped between its statement and its commit, and goes on after the other"""
    first, second = rig.members("coordinator")
    worker = rig["worker-1"]
    submit(history, 1)
    history.ended()  # from now on the owner has counters
    rig["worker-2"].kill()
    submit(history, size(2, 20), steps=20, step_seconds=0.1)
    running = "SELECT id::text FROM jobs WHERE state = 'running' AND lease_owner LIKE %s"
    [[lost]] = wait_until(lambda: rig.postgres.rows(running, f"%-{worker.pid}/%"), 180, "a job at worker-1")
    with second.stopped():
        with rig.postgres.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM usage_now FOR UPDATE")  # the reaper's statement books what the job has used
            rig.broke()
            worker.signal(signal.SIGKILL, group=True)
            [[reaper]] = wait_until(lambda: rig.postgres.rows(WAITING), 180, "a reaper at its statement")
            first.signal(signal.SIGSTOP, group=True)
        wait_until(lambda: rig.postgres.rows(HALF_WAY, reaper), 180, "a reaper before its commit")
    history.ended()
    first.signal(signal.SIGCONT, group=True)
    submit(history, 2)
    history.ended()
    assert set(history.states().values()) == {"completed"}
    assert rig.postgres.rows("SELECT attempt, crashes FROM jobs WHERE id = %s", lost) == [(2, 1)]
    history.verify()
