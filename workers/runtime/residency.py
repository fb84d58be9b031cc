"""Models stay loaded between jobs; the least recently used one leaves when memory is short."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from workers.runtime.devices import used_fraction
from workers.runtime.runner import Runner


@dataclass(frozen=True, slots=True)
class Residence:
    """Which runner class holds which model."""

    family: str
    model: str
    runner: str


class Residency:
    """The runners resident on one device. `swaps` counts the models that had to leave for another."""

    def __init__(self, device: str, memory_fraction: float, used: Callable[[str], float] = used_fraction) -> None:
        self.device = device
        self.swaps = 0
        self._memory_fraction, self._used = memory_fraction, used
        self._resident: OrderedDict[Residence, Runner] = OrderedDict()

    def is_resident(self, residence: Residence) -> bool:
        return residence in self._resident

    def get(self, residence: Residence) -> Runner:
        """The runner with its model loaded; raises what its `setup` raises, and then nothing stays behind."""
        if residence not in self._resident:
            self._make_room()
            module, name = residence.runner.split(":")
            runner: Runner = getattr(import_module(module), name)()
            runner.setup(self.device, residence.model)
            self._resident[residence] = runner
        self._resident.move_to_end(residence)
        return self._resident[residence]

    def evict_others(self, residence: Residence) -> None:
        """The device ran out of memory under this one: everything else leaves."""
        for other in [other for other in self._resident if other != residence]:
            self._evict(other)

    def status(self) -> dict[str, Any]:
        """Resident models by family, most recently used last, with what their runners tell."""
        families: dict[str, list[dict[str, Any]]] = {}
        for residence, runner in self._resident.items():
            families.setdefault(residence.family, []).append({"model": residence.model, **runner.status()})
        return {"resident": families, "swaps": self.swaps}

    def close(self) -> None:
        for residence in list(self._resident):
            self._resident.pop(residence).close()

    def _make_room(self) -> None:
        while self._resident and self._used(self.device) > self._memory_fraction:
            self._evict(next(iter(self._resident)))

    def _evict(self, residence: Residence) -> None:
        self._resident.pop(residence).close()
        self.swaps += 1
