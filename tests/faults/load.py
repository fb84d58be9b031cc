"""People who submit jobs while things break, and people who break things again and again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults.history import History, say
from tests.faults.rig import Rig
from tests.platform import TERMINAL

# Some steps, two files, a second of work for eight of them: enough to be hit, and no load for two cores.
WORK: dict[str, Any] = {"steps": 4, "step_seconds": 0.03, "files": 2, "size": 50_000, "marked": True}


Fault = Callable[[Rig, float], None]  # breaks the rig for so many seconds


def seldom(*faults: Fault) -> list[Any]:
    """Of an experiment's faults those that the small set leaves out."""
    return [pytest.param(fault, marks=pytest.mark.whole) for fault in faults]


def named(fault: Fault) -> str:
    return fault.__name__


def submit(history: History, count: int, **more: Any) -> list[str]:
    """So many jobs, accepted; their ids."""
    client = history.client()
    return [client.submit(**_body(number, more)) for number in range(count)]


@contextmanager
def submitting(history: History, count: int, pause: float = 0.05, **more: Any) -> Iterator[threading.Thread]:
    """Submit so many jobs during the block, and to the end after it; what goes wrong there is raised at its end."""
    problems: list[BaseException] = []
    client = history.client()

    def work() -> None:
        try:
            for number in range(count):
                client.submit(**_body(number, more))
                time.sleep(pause)
        except BaseException as problem:  # told to whoever waits
            problems.append(problem)

    thread = threading.Thread(target=work, name="load")
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
    if problems:
        raise problems[0]


@contextmanager
def keeping_busy(history: History, jobs: int, **more: Any) -> Iterator[None]:
    """During the block about so many jobs have not ended, at any time; what goes wrong is raised at its end."""
    problems: list[BaseException] = []
    over = threading.Event()
    client = history.client()

    def work() -> None:
        try:
            number = 0
            while not over.wait(0.05):
                for _ in range(jobs - sum(state not in TERMINAL for state in history.states().values())):
                    client.submit(**_body(number, more))
                    number += 1
        except BaseException as problem:  # told to whoever waits
            problems.append(problem)

    thread = threading.Thread(target=work, name="load")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if problems:
        raise problems[0]


def breaking(history: History, faults: list[Callable[[], None]], count: int, pause: float, seed: int) -> None:
    """Break something `count` times with about this pause between, each kind once in each shuffled round.

    What ended is started again. The seed is printed, so that a failure can be had again.
    """
    print(f"chance has the seed {seed}")
    chance = random.Random(seed)
    rounds: list[Callable[[], None]] = []
    for _ in range(count):
        rounds = rounds or chance.sample(faults, len(faults))
        time.sleep(pause * chance.uniform(0.5, 1.5))
        history.rig.broke()
        rounds.pop()()
        history.rig.supervise()


def _body(number: int, more: dict[str, Any]) -> dict[str, Any]:
    return {**WORK, "seed": number, "say": say(number), **more}
