"""Named places in the job's path at which a test makes a process die, stop, fail or wait.

`ATELIER_FAILPOINTS="W2=kill@3,W5=sleep:2"`: the third time that this process passes W2 it is killed, and whenever it
passes W5 it waits two seconds. The settings refuse the variable wherever others are served.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from dataclasses import dataclass

PLACES = {
    "W1": "a worker has heard a doorbell",
    "W2": "a worker has claimed a job",
    "W3": "a runner has told a step",
    "W4": "a worker is about to upload",
    "W5": "a chunk of an upload was written, the upload is not complete",
    "W6": "a worker is about to publish",
    "W7": "a worker has published, or been refused",
    "G1": "a gateway is about to commit submits",
    "G2": "a gateway has committed submits",
    "D1": "a dispatcher has marked jobs as rung for, and has not rung",
    "H1": "a webhook was sent, and is not marked",
}
FORM = re.compile(
    r"(?P<place>\w+)=(?:(?P<action>kill|stop|raise)|sleep:(?P<seconds>\d+(\.\d+)?))(?:@(?P<at>[1-9]\d*))?"
)


class FailpointError(RuntimeError):
    """What `raise` raises: an error that nobody expects."""


@dataclass(slots=True)
class Failpoint:
    """What happens at a place: a signal, a pause in seconds, or an error if neither; at one passage or at all."""

    place: str
    signal: signal.Signals | None
    seconds: float
    at: int | None
    passed: int = 0

    def act(self) -> None:
        """The process passes."""
        with _lock:
            self.passed += 1
            if self.at not in (None, self.passed):
                return
        # The moment is told, because whoever is killed tells nothing afterwards.
        os.write(2, f"failpoint {self.place} at {time.time():.3f}\n".encode())
        if self.signal:
            os.kill(os.getpid(), self.signal)
        elif self.seconds:
            time.sleep(self.seconds)  # also in an event loop: the process is to stand still
        else:
            raise FailpointError(f"failpoint {self.place}")


_lock = threading.Lock()
_armed: dict[str, Failpoint] = {}


def failpoint(place: str) -> None:
    """The process is at this place; nothing happens unless a test armed it."""
    if _armed and place in _armed:
        _armed[place].act()


def arm(text: str) -> None:
    """Switch these on, and no others; ValueError as `parse`."""
    _armed.clear()
    _armed.update({found.place: found for found in parse(text)})


def parse(text: str) -> list[Failpoint]:
    """`PLACE=kill|stop|raise|sleep:SECONDS`, each with `@K` for the K-th passage only, separated by commas.

    ValueError names what is not understood.
    """
    return [_parsed(part.strip()) for part in text.split(",") if part.strip()]


def _parsed(part: str) -> Failpoint:
    found = FORM.fullmatch(part)
    if found is None or found["place"] not in PLACES:
        raise ValueError(f"{part!r} is no failpoint; one is such as W2=kill@3 or W5=sleep:2, at {', '.join(PLACES)}")
    number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}.get(found["action"] or "")
    return Failpoint(found["place"], number, float(found["seconds"] or 0), int(found["at"]) if found["at"] else None)
