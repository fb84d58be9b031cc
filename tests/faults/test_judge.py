"""The judge judged where no broken product is needed: what it lets pass, and for how long."""

from __future__ import annotations

import os
import signal
from contextlib import closing

from tests.faults.client import Exchange
from tests.faults.figures import Budget
from tests.faults.history import AFTERMATH, History
from tests.faults.load import submit
from tests.faults.rig import Rig
from tests.platform import wait_until


def test_a_process_that_nobody_ended(rig: Rig, history: History) -> None:
    submit(history, 1)
    os.kill(rig["coordinator-1"].pid, signal.SIGSEGV)
    wait_until(lambda: rig["coordinator-1"].is_gone, 30, "its end")
    [found] = history.judge()
    assert (found.invariant, "coordinator-1 ended by itself with -11" in found.evidence) == ("I10", True)
    assert history.judge() == [], "it was told once, and started again"


def test_a_process_that_the_experiment_ended_or_expects_to_end(rig: Rig, history: History) -> None:
    rig["coordinator-1"].signal(signal.SIGKILL)
    os.kill(rig["coordinator-2"].pid, signal.SIGKILL)
    wait_until(lambda: rig["coordinator-2"].has_ended, 30, "its end")
    wait_until(lambda: rig["coordinator-1"].is_gone, 30, "the other's end")
    rig.supervise()
    history.excused = {"exits"}
    os.kill(rig["worker-1"].pid, signal.SIGSEGV)
    wait_until(lambda: rig["worker-1"].is_gone, 30, "its end")
    assert history.judge() == []


def test_excuses_end_soon_after_the_healing(rig: Rig) -> None:
    until = 110 + float(rig.settings["ATELIER_LEASE_SECONDS"]) + AFTERMATH
    for healings, at, wrong in (
        ([110.0], 98.0, 1),  # before anything was broken
        ([110.0], 99.5, 0),
        ([110.0], until - 1, 0),
        ([110.0], until + 1, 1),
        ([], until + 1, 0),
    ):
        rig.faults, rig.healings = [100.0], healings
        with closing(History(rig, excused={503})) as history:
            history.record.exchanges.append(Exchange(at, 1.0, "a", "GET", "/jobs", None, 503, b"", None))
            assert len(history.judge()) == wrong, at


def test_budgets_say_whether_they_are_met() -> None:
    assert str(Budget("again", 7.04, "s", at_most=12)) == "| again | ≤ 12 s | 7 s | yes |"
    assert str(Budget("all", 19, "done", at_least=20)) == "| all | ≥ 20 done | 19 done | **no** |"
