"""Models stay loaded between jobs; the least recently used one leaves when memory is short.

One thread runs jobs and loads; another may ask for models to be unloaded meanwhile. What runs is never evicted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from shared.catalog.reports import Needs
from workers.runtime.devices import give_back, held_bytes, total_bytes, used_fraction
from workers.runtime.runner import ModelBeyondBudget, ModelDisabled, Runner


@dataclass(frozen=True, slots=True)
class Residence:
    """Which runner class holds which model."""

    family: str
    model: str
    runner: str


@dataclass(slots=True)
class Resident:
    """A loaded model: what loading it took, measured; `told` is what its runner said when it last had nothing to do."""

    runner: Runner
    need: int | None
    load_seconds: float
    memory_bytes: int
    told: dict[str, Any]
    last_used: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def counted_bytes(self) -> int:
        """What it takes of the budget: its weights as the catalog has them, else what was measured."""
        return self.memory_bytes if self.need is None else self.need


class Residency:
    """The runners resident on one device.

    `budget` bounds the bytes of all models' weights (0: none), `memory_fraction` the share of the device's memory that
    may be in use, by whomever. `needs` tells of a model what is known before it is loaded. `swaps` counts the models
    that had to leave for another.
    """

    def __init__(
        self,
        device: str,
        memory_fraction: float,
        used: Callable[[str], float] = used_fraction,
        *,
        budget: int = 0,
        needs: Callable[[Residence], Needs] = lambda _: Needs(),
    ) -> None:
        self.device = device
        self.swaps = 0
        self._memory_fraction, self._used = memory_fraction, used
        self._budget, self._needs = budget, needs
        self._resident: OrderedDict[Residence, Resident] = OrderedDict()
        self._lock = threading.RLock()
        self._running: Residence | None = None
        self._leaving: dict[Residence, str] = {}  # to be unloaded once it is idle, for which request
        self._loads: Counter[Residence] = Counter()
        self._runs: Counter[Residence] = Counter()
        self._hits: Counter[Residence] = Counter()
        self._unloaded: deque[dict[str, Any]] = deque(maxlen=20)

    def is_resident(self, residence: Residence) -> bool:
        return residence in self._resident

    @contextmanager
    def using(self, residence: Residence, runs: int = 1) -> Iterator[Runner]:
        """The runner with its model loaded, which stays for as long as it is used for this many jobs."""
        with self._lock:
            self._running = residence
            loaded = residence in self._resident
        try:
            runner = self.get(residence)
            self._runs[residence] += runs
            self._hits[residence] += runs if loaded else max(0, runs - 1)
            yield runner
        finally:
            self._release(residence)

    def get(self, residence: Residence) -> Runner:
        """The runner with its model loaded; raises what its `setup` raises, and then nothing stays behind."""
        if residence not in self._resident:
            resident = self._load(residence)
            with self._lock:
                self._resident[residence] = resident
        with self._lock:
            self._resident.move_to_end(residence)
            return self._resident[residence].runner

    def unload(self, family: str, model: str, request: str) -> None:
        """Give this model's memory back: now, or when the job that uses it has ended."""
        with self._lock:
            for residence in [found for found in self._resident if (found.family, found.model) == (family, model)]:
                if residence == self._running:
                    self._leaving[residence] = request
                else:
                    self._unload(residence, request)

    def evict_others(self, residence: Residence) -> None:
        """The device ran out of memory under this one: everything else leaves."""
        with self._lock:
            for other in [other for other in self._resident if other != residence]:
                self._evict(other)

    def status(self) -> dict[str, Any]:
        """Resident models by family, most recently used last; then what was counted since this process began.

        `used` has loads, runs and hits by family: a hit is a run that found its model in memory.
        """
        with self._lock:
            families: dict[str, list[dict[str, Any]]] = {}
            for residence, resident in self._resident.items():
                families.setdefault(residence.family, []).append(self._describe(residence, resident))
            return {
                "resident": families,
                "swaps": self.swaps,
                "used": self._used_by_family(),
                "unloaded": list(self._unloaded),
                "memory_budget_bytes": self._budget or None,
            }

    def describe(self, residence: Residence) -> dict[str, Any]:
        """What is known of this loaded model; KeyError if it is not."""
        with self._lock:
            return self._describe(residence, self._resident[residence])

    def close(self) -> None:
        with self._lock:
            for residence in list(self._resident):
                self._resident.pop(residence).runner.close()

    def _load(self, residence: Residence) -> Resident:
        needs = self._needs(residence)
        if needs.disabled:
            raise ModelDisabled(f"The model {residence.model} is disabled.")
        self._make_room(residence, needs.memory_bytes or 0)
        module, name = residence.runner.split(":")
        runner: Runner = getattr(import_module(module), name)()  # the libraries are no part of what a model takes
        before, began = held_bytes(self.device), time.monotonic()
        runner.setup(self.device, residence.model)
        seconds, grown = time.monotonic() - began, held_bytes(self.device) - before
        self._loads[residence] += 1
        return Resident(runner, needs.memory_bytes, round(seconds, 3), max(0, grown), runner.status())

    def _release(self, residence: Residence) -> None:
        with self._lock:
            self._running = None
            if resident := self._resident.get(residence):
                resident.told, resident.last_used = resident.runner.status(), datetime.now(UTC)
            request = self._leaving.pop(residence, None)
            if resident and request is not None:
                self._unload(residence, request)

    def _make_room(self, residence: Residence, need: int) -> None:
        if self._budget and need > self._budget:
            raise ModelBeyondBudget(
                f"The model {residence.model} needs {need} bytes, and this worker's models may take {self._budget}."
            )
        with self._lock:
            while self._resident and self._is_short(need):
                self._evict(next(iter(self._resident)))
                self.swaps += 1

    def _is_short(self, need: int) -> bool:
        taken = sum(resident.counted_bytes for resident in self._resident.values())
        if self._budget and taken + need > self._budget:
            return True
        share = need / total_bytes(self.device) if need else 0
        return self._used(self.device) + share > self._memory_fraction

    def _unload(self, residence: Residence, request: str) -> None:
        before = held_bytes(self.device)
        self._evict(residence)
        freed = max(0, before - held_bytes(self.device))
        self._unloaded.append(
            {"request": request, "family": residence.family, "model": residence.model, "freed_bytes": freed}
        )

    def _evict(self, residence: Residence) -> None:
        self._resident.pop(residence).runner.close()
        give_back(self.device)

    def _used_by_family(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for kind, counter in (("loads", self._loads), ("runs", self._runs), ("hits", self._hits)):
            for residence, count in counter.items():
                counts = found.setdefault(residence.family, {"loads": 0, "runs": 0, "hits": 0})
                counts[kind] += count
        return found

    def _describe(self, residence: Residence, resident: Resident) -> dict[str, Any]:
        return {
            "model": residence.model,
            "need_bytes": resident.need,
            "memory_bytes": resident.memory_bytes,
            "load_seconds": resident.load_seconds,
            "loads": self._loads[residence],
            "runs": self._runs[residence],
            "last_used_at": resident.last_used.isoformat(),
            **resident.told,
        }
