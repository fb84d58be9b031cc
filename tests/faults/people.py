"""People who use a platform for hours: they submit all kinds of work, look, listen, cancel, download, and go away."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import httpx

from tests.faults.client import PATIENCE, Client
from tests.faults.history import History, say
from tests.faults.load import WORK
from tests.platform import TERMINAL

# What is asked for, and how often of a thousand times.
KINDS: list[tuple[int, dict[str, Any]]] = [
    (600, {}),
    (150, {"files": 0, "steps": 0}),
    (80, {"files": 5, "size": 400_000}),
    (60, {"allocate": 50_000_000}),
    (50, {"steps": 20, "preview": True}),
    (20, {"fail": "once"}),
    (15, {"fail": "crash_once"}),
    (10, {"fail": "input"}),
    (5, {"fail": "bug"}),
    (5, {"fail": "memory"}),
    (2, {"fail": "segfault"}),
    (2, {"fail": "exit"}),
    (1, {"fail": "hang_in_c"}),
]


class Person(threading.Thread):
    """Asks for one thing after the other until told to stop; `problem` is what ended it before."""

    def __init__(self, history: History, seed: int, pause: float) -> None:
        super().__init__(name=f"person-{seed}", daemon=True)
        self.history, self._client = history, history.client()
        self._chance, self._pause = random.Random(seed), pause
        self._leaving = threading.Event()
        self._earlier: list[str] = []
        self.problem: Exception | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self._leaving.wait(self._pause * self._chance.uniform(0.2, 1.8)):
                number += 1
                self._ask(number)
        except Exception as problem:  # told to whoever asks
            self.problem = problem

    def leave(self) -> None:
        """After what is being asked."""
        self._leaving.set()

    def _ask(self, number: int) -> None:
        weights, kinds = zip(*KINDS, strict=True)
        (kind,) = self._chance.choices(kinds, weights)
        job = self._client.submit(**{**WORK, "seed": number, "say": say(number), **kind})
        then = self._chance.random()
        if then < 0.08:
            time.sleep(self._chance.uniform(0, 0.5))
            self._client.cancel(job)
        elif then < 0.16:
            follow(self.history, self._client, job, events=self._chance.choice((1, 3, 1000)))
        elif then < 0.3:
            self._client.status(job)
        if self._earlier and self._chance.random() < 0.15:
            self._collect(self._chance.choice(self._earlier))
        self._earlier = [*self._earlier[-50:], job]

    def _collect(self, job: str) -> None:
        if self._client.status(job)["status"] == "completed":
            self._client.result(job)


def follow(history: History, client: Client, job: str, events: int) -> None:
    """Listen to a job for so many events, and go away; an end that is told there is told everywhere."""
    told = ""
    url = history.rig.url(history.rig.members("gateway")[0].name)
    try:
        with httpx.stream("GET", f"{url}/status/{job}/events", timeout=PATIENCE) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: ") and (data := json.loads(line[6:])):
                    told, events = data["status"], events - 1
                if not events or told in TERMINAL:
                    break
    except httpx.ReadTimeout:
        raise AssertionError(f"the events of {job}: no sign of life for {PATIENCE} s") from None
    except httpx.TransportError:
        return  # the gateway went away
    if told in TERMINAL:
        assert client.status(job)["status"] == told
