"""Memory does not grow with loads and unloads, however often a worker swaps its models."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from workers.runtime.residency import Residence, Residency

WEIGHTS: list[Path] = []
SIZE = 1_000_000  # numbers, four bytes each
LOADS, WARM = 500, 50


class Network:
    """Refers to itself, as pipelines do: nothing but a collection of garbage frees it."""

    def setup(self, device: str, model: str) -> None:
        self._network = torch.nn.utils.skip_init(torch.nn.Linear, 1000, 1000, bias=False)
        self._network.load_state_dict(load_file(WEIGHTS[0]))
        self._itself = self
        self._forward: Any = self.run

    def run(self, request: Any, job: Any) -> dict[str, Any]:
        with torch.no_grad():
            return {"sum": float(self._network(torch.ones(1, 1000)).sum())}

    def status(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Nothing: what is not referred to any more must be enough."""


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[None]:
    """The file that is loaded. What is in memory already is left out of 500 collections of garbage."""
    torch.set_num_threads(1)
    WEIGHTS[:] = [tmp_path / "model.safetensors"]
    save_file({"weight": torch.ones(1000, 1000)}, WEIGHTS[0])
    gc.freeze()
    yield
    gc.unfreeze()


def test_memory_is_flat_over_500_loads_and_unloads(weights: None) -> None:
    residency = Residency("cpu", 1.0, lambda _: 0.0)
    models = [Residence("toy", name, f"{__name__}:Network") for name in ("a", "b")]
    process, held = psutil.Process(), []
    for number in range(LOADS):
        model = models[number % 2]
        with residency.using(model) as runner:
            assert runner.run(None, None) == {"sum": 1e6}
        del runner
        residency.unload(model.family, model.model, "request")
        held.append(process.memory_info().rss)
    grown = max(held[-WARM:]) - max(held[:WARM])
    assert grown < 4 * SIZE, f"{grown} bytes more after {LOADS} loads of {4 * SIZE} bytes: more than one model is kept"
    assert residency.status()["resident"] == {}
