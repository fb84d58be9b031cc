"""Models stay while there is room; the least recently used leaves first."""

from __future__ import annotations

from typing import Any

import pytest

from workers.runtime.residency import Residence, Residency
from workers.runtime.runner import ModelMissing

LOADED: list[str] = []


class Toy:
    def setup(self, device: str, model: str) -> None:
        if model == "broken":
            raise ModelMissing("broken")
        self.model = model
        LOADED.append(model)

    def status(self) -> dict[str, Any]:
        return {"loaded": True}

    def close(self) -> None:
        LOADED.remove(self.model)


def residence(model: str) -> Residence:
    return Residence("toy", model, f"{__name__}:Toy")


@pytest.fixture
def used() -> list[float]:
    """The share of memory that is in use, to be changed by the test."""
    LOADED.clear()
    return [0.1]


def test_a_model_is_loaded_once(used: list[float]) -> None:
    residency = Residency("cpu", 0.8, lambda _: used[0])
    assert residency.get(residence("a")) is residency.get(residence("a"))
    assert (LOADED, residency.swaps) == (["a"], 0)


def test_the_least_recently_used_leaves_when_memory_is_short(used: list[float]) -> None:
    residency = Residency("cpu", 0.8, lambda _: 0.9 if len(LOADED) >= 2 else used[0])
    for model in ("a", "b", "a", "c"):
        residency.get(residence(model))
    assert (LOADED, residency.swaps) == (["a", "c"], 1)
    assert [model["model"] for model in residency.status()["resident"]["toy"]] == ["a", "c"]


def test_a_model_that_does_not_load_leaves_nothing(used: list[float]) -> None:
    residency = Residency("cpu", 0.8, lambda _: used[0])
    with pytest.raises(ModelMissing):
        residency.get(residence("broken"))
    assert not residency.is_resident(residence("broken"))


def test_out_of_memory_sends_the_others_away(used: list[float]) -> None:
    residency = Residency("cpu", 0.8, lambda _: used[0])
    for model in ("a", "b", "c"):
        residency.get(residence(model))
    residency.evict_others(residence("b"))
    assert LOADED == ["b"]
    residency.close()
    assert LOADED == []
