"""What grows while a platform works for long: memory, descriptors and threads of each kind of process, by the hour."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

from tests.faults.rig import Rig

EVERY = 5.0  # seconds
MIB = 1024 * 1024


class Sample(NamedTuple):
    """One look at a process: seconds, MiB, numbers."""

    at: float
    memory: float
    descriptors: float
    threads: float


@dataclass
class Life:
    """A process from its first sample to its last; faults end some early."""

    kind: str
    samples: list[Sample] = field(default_factory=list)

    def settled(self, warm_up: float) -> list[Sample]:
        """Without its beginning, in which everything grows."""
        return [sample for sample in self.samples if sample.at >= self.samples[0].at + warm_up]


class Growth(NamedTuple):
    """Of one kind: how many lives and hours were measured, its memory at the end, and what is added an hour."""

    kind: str
    lives: int
    hours: float
    memory: float
    slopes: tuple[float, float, float]  # MiB, descriptors, threads


class Sampler(threading.Thread):
    """Looks at all processes of a rig, and at this one, every few seconds."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(name="sampler", daemon=True)
        self._rig, self._over = rig, threading.Event()
        self._lives: dict[tuple[int, float], Life] = {}

    def run(self) -> None:
        while not self._over.wait(EVERY):
            for kind, process in self._processes():
                with suppress(psutil.Error):
                    born, seen = process.create_time(), look(process)
                    if seen:
                        self._lives.setdefault((process.pid, born), Life(kind)).samples.append(seen)

    def stop(self) -> None:
        self._over.set()
        self.join()

    @property
    def lives(self) -> list[Life]:
        """Of all processes that it has seen."""
        return list(self._lives.values())

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        yield "(the judge)", psutil.Process()
        for member in self._rig.members():
            with suppress(psutil.Error, AssertionError):  # it is away at the moment
                process = psutil.Process(member.pid)
                yield member.kind, process
                for child in process.children():
                    if "spawn_main" in " ".join(child.cmdline()):
                        yield f"{member.kind}'s child", child


def look(process: psutil.Process) -> Sample | None:
    """What it takes now; None once it has ended, even if nobody has waited for it yet. Raises psutil.Error."""
    descriptors, threads = process.num_fds(), process.num_threads()
    memory = process.memory_info().rss / MIB  # the last: 0 tells that the others may be of what has ended
    return Sample(time.monotonic(), memory, descriptors, threads) if memory else None


def growth(lives: Iterable[Life], warm_up: float) -> list[Growth]:
    """By kind. Each life's slope is by least squares, and counts for as long as the life was measured."""
    kinds: dict[str, list[list[Sample]]] = defaultdict(list)
    for life in lives:
        samples = life.settled(warm_up)
        if len(samples) > 2 and samples[-1].at - samples[0].at >= warm_up:
            kinds[life.kind].append(samples)
    return [_growth(kind, measured) for kind, measured in sorted(kinds.items())]


def _growth(kind: str, lives: list[list[Sample]]) -> Growth:
    spans = [samples[-1].at - samples[0].at for samples in lives]
    whole = sum(spans)
    slopes = [
        sum(slope(samples, what) * span for samples, span in zip(lives, spans, strict=True)) / whole
        for what in ("memory", "descriptors", "threads")
    ]
    memory = statistics.median(samples[-1].memory for samples in lives)
    return Growth(kind, len(lives), whole / 3600, memory, (slopes[0], slopes[1], slopes[2]))


def slope(samples: list[Sample], what: str) -> float:
    """What is added in an hour, by least squares."""
    hours = [(sample.at - samples[0].at) / 3600 for sample in samples]
    return statistics.linear_regression(hours, [getattr(sample, what) for sample in samples]).slope


def table(found: list[Growth]) -> str:
    """As text."""
    lines = [
        f"{'process':16} {'lives':>5} {'hours':>6} {'MiB':>6} {'MiB/h':>8} {'descriptors/h':>14} {'threads/h':>10}"
    ]
    for kind, lives, hours, memory, (more, descriptors, threads) in found:
        lines.append(
            f"{kind:16} {lives:5} {hours:6.2f} {memory:6.0f} {more:+8.1f} {descriptors:+14.1f} {threads:+10.1f}"
        )
    return "\n".join(lines)
