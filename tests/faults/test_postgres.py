"""Postgres that restarts, dies, is away, is full or locked: nothing that was accepted is lost, and the rest is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg2
import pytest

from tests.faults.history import History
from tests.faults.load import Fault, named, seldom, submit, submitting
from tests.faults.rig import Rig
from tests.platform import wait_until

Size = Callable[[Any, Any], Any]
FULL = "too many clients"
THEIRS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'atelier%'"
END_THEIRS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'atelier%'"


def restarted(rig: Rig, seconds: float) -> None:
    rig.postgres.stop()
    rig.postgres.start()


def killed(rig: Rig, seconds: float) -> None:
    rig.postgres.kill()
    rig.postgres.start()


def away(rig: Rig, seconds: float) -> None:
    rig.postgres.stop()
    time.sleep(seconds)
    rig.postgres.start()


def half_open(rig: Rig, seconds: float) -> None:
    """All connections go silent for good, and nobody tells the platform that new ones would work."""
    for link in rig.links("postgres"):
        link.vanish()
    time.sleep(seconds)


def out_of_connections(rig: Rig, seconds: float) -> None:
    """All connections are somebody else's, and not one of the platform's is left."""
    with ExitStack() as taken, rig.postgres.cursor() as cursor:
        cursor.execute("SELECT current_setting('max_connections')::int - 1")
        (left,) = cursor.fetchone()

        def none_left() -> bool:
            nonlocal left
            cursor.execute(END_THEIRS)
            while left:
                try:
                    taken.callback(psycopg2.connect(rig.postgres.url).close)
                except psycopg2.OperationalError as error:
                    if FULL not in str(error):
                        raise
                    return False  # the platform was faster, or is not gone yet
                left -= 1
            return True

        wait_until(none_left, 60, "the last connection")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            cursor.execute(THEIRS)
            assert cursor.fetchone() == (0,)
            time.sleep(0.1)


def locked(rig: Rig, seconds: float) -> None:
    with rig.postgres.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        time.sleep(seconds)
        cursor.execute("COMMIT")


def idle_in_transaction(rig: Rig, seconds: float) -> None:
    """Somebody looks at rows, keeps them, and does nothing."""
    with rig.postgres.cursor() as cursor:
        cursor.execute("BEGIN; SELECT FROM jobs WHERE state IN ('queued', 'running') LIMIT 20 FOR UPDATE")
        time.sleep(seconds)
        cursor.execute("ROLLBACK")


FAULTS = [killed, out_of_connections, locked, *seldom(restarted, away, half_open, idle_in_transaction)]
# How often, and for how many seconds, in the whole set; once for 10 s all others.
OFTEN: dict[Fault, tuple[int, float]] = {
    killed: (3, 0),
    restarted: (3, 0),
    locked: (1, 20),
    away: (1, 90),
    half_open: (1, 30),
}
TOLD = {away, out_of_connections}  # to clients, by 503, while it lasts


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_postgres_is(fault: Fault, rig: Rig, history: History, size: Size) -> None:
    """Postgres fails for a while"""
    history.excused = {503}
    with submitting(history, size(8, 150), pause=size(1, 0.3 if fault is half_open else 0.1)):
        wait_until(lambda: "completed" in history.states().values(), 180, "a first result")
        times, seconds = OFTEN.get(fault, (1, 10))
        for _ in range(size(1, times)):
            rig.broke()
            fault(rig, size(3, seconds))
            rig.healed(rig.faults[-1] if fault is half_open else None)  # new connections work all the while
    history.ended()
    assert set(history.states().values()) == {"completed"}
    if fault in TOLD:
        assert 503 in {told.status for told in history.record.exchanges}
    history.verify()


@pytest.mark.whole
def test_postgres_is_killed_ten_times_under_load(rig: Rig, history: History) -> None:
    """kill -9 of Postgres, ten times under load"""
    history.excused = {503}
    with submitting(history, 200, pause=0.2):
        for _ in range(10):
            time.sleep(3)
            rig.broke()
            killed(rig, 0)
            rig.healed()
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


def test_the_answer_to_a_published_result_is_lost(rig: Rig, history: History) -> None:
    """The connection ends between the commit of a result and its answer"""
    rig["worker-2"].kill()
    link = rig.link("worker-1", "postgres")
    link.lose_the_answer_to(b"COMMIT", after=b"SET state = 'completed'")
    rig.broke()
    submit(history, 1)
    wait_until(link.lost.is_set, 180, "a lost answer")
    history.ended()
    history.client().result(history.jobs[0])
    history.verify()


def test_the_answer_to_an_accepted_job_is_lost(rig: Rig, history: History) -> None:
    """The connection ends between the commit of a submit and its answer"""
    history.excused = {503}
    link = rig.link("gateway-1", "postgres")
    link.lose_the_answer_to(b"COMMIT")
    rig.broke()
    submit(history, 4)
    wait_until(link.lost.is_set, 180, "a lost answer")
    history.ended()
    history.verify()
