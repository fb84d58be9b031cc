"""Two of each: dispatchers that die before they ring, reapers that sleep, webhook senders that forget to note."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.faults.history import History
from tests.faults.load import submit, submitting
from tests.faults.rig import Rig
from tests.platform import wait_until

Size = Callable[[int, int], int]


OFTEN = {"D1": 5, "H1": 1}  # the lease of a delivery is a minute, and holds its receiver's place


@pytest.mark.parametrize("place", ["D1", pytest.param("H1", marks=pytest.mark.whole)])
def test_killed_at(place: str, rig: Rig, history: History, size: Size) -> None:
    """A coordinator is killed before it rings, or before it notes a delivery; the other one finds out"""
    first, second = rig.members("coordinator")
    for _ in range(size(1, OFTEN[place])):
        rig.start(first.name, failpoints=f"{place}=kill@1")
        with second.stopped():
            submit(history, 6)
            wait_until(lambda: first.has_ended, 180, f"its end at {place}")
            rig.faults += first.passed(place)
    rig.start(first.name)
    history.ended()
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
def test_a_reaper_sleeps_while_a_worker_dies(rig: Rig, history: History, size: Size) -> None:
    """A worker dies while one of two reapers is stopped, which goes on when the other has done the work"""
    submit(history, size(6, 40), steps=8)
    running = "SELECT 1 FROM jobs WHERE state = 'running' AND lease_owner LIKE %s"
    worker = rig["worker-1"]
    wait_until(lambda: rig.postgres.rows(running, f"%-{worker.pid}/%"), 180, "a job at worker-1")
    with rig["coordinator-1"].stopped():
        rig.broke()
        worker.signal(signal.SIGKILL, group=True)
        history.ended()
    submit(history, 2)
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()
