"""Figures of an experiment under load, printed: how long answers took, and what gateways hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psutil

from tests.faults.client import Exchange
from tests.faults.rig import Member

MIB = 2**20


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def told_of(name: str, exchanges: Iterable[Exchange]) -> None:
    """Print how many answers there were, and how long they took."""
    seconds = [told.seconds for told in exchanges]
    p50, p99 = (1000 * percentile(seconds, share) for share in (0.5, 0.99))
    print(f"{name}: {len(seconds)} answers, p50 {p50:.0f} ms, p99 {p99:.0f} ms")


def held(member: Member) -> tuple[int, int]:
    """Bytes of memory and descriptors of a gateway's process."""
    process = psutil.Process(member.pid)
    return process.memory_info().rss, process.num_fds()


class Watched:
    """The most that a member was seen to hold, and what it held before."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.before = self.most = held(member)[0]

    def look(self) -> None:
        self.most = max(self.most, held(self.member)[0])

    @property
    def growth(self) -> int:
        return self.most - self.before

    def __str__(self) -> str:
        return f"{self.member.name}: {self.before / MIB:.0f} MiB before, at most {self.most / MIB:.0f} MiB"


@contextmanager
def watching(members: Iterable[Member]) -> Iterator[list[Watched]]:
    """Look at these members' memory twice a second during the block, and print what was seen."""
    watched, ended = [Watched(member) for member in members], threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            for each in watched:
                each.look()

    thread = threading.Thread(target=look, name="watch")
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()
        print(*watched, sep="; ")


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began
