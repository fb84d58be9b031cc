"""Room is made before a model is loaded, what runs stays, what is asked to leave leaves; and what is counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from shared.catalog.reports import Needs
from workers.runtime.residency import Residence, Residency
from workers.runtime.runner import ModelBeyondBudget, ModelDisabled
from workers.runtime.warming import warm

LOADED: list[str] = []
MOST: list[int] = []  # how many were loaded at the same time when another came


class Toy:
    def setup(self, device: str, model: str) -> None:
        MOST.append(len(LOADED))
        self.model = model
        LOADED.append(model)

    def status(self) -> dict[str, Any]:
        return {"loaded": True}

    def close(self) -> None:
        LOADED.remove(self.model)


def residence(model: str) -> Residence:
    return Residence("toy", model, f"{__name__}:Toy")


def resident(budget: int, **needs: int) -> Residency:
    """A budget of so many bytes, and models that need theirs; "off" is disabled."""
    LOADED.clear()
    MOST.clear()

    def known(asked: Residence) -> Needs:
        return Needs(needs.get(asked.model), disabled=asked.model == "off")

    return Residency("cpu", 1.0, lambda _: 0.0, budget=budget, needs=known)


def use(residency: Residency, *models: str) -> None:
    for model in models:
        with residency.using(residence(model)):
            pass


def test_several_models_stay_as_long_as_the_budget_holds_them() -> None:
    residency = resident(100, a=40, b=50, c=30)
    use(residency, "a", "b", "a", "c")
    assert LOADED == ["a", "c"], "b was used least recently, and left before c was loaded"
    assert MOST == [0, 1, 1]
    assert residency.swaps == 1


def test_a_model_that_can_never_fit_is_refused_and_evicts_nobody() -> None:
    residency = resident(100, a=40, b=101)
    use(residency, "a")
    with pytest.raises(ModelBeyondBudget, match="b needs 101 bytes"):
        use(residency, "b")
    assert LOADED == ["a"]


def test_a_disabled_model_is_not_loaded() -> None:
    residency = resident(0)
    with pytest.raises(ModelDisabled):
        use(residency, "off")
    assert LOADED == []


def test_an_idle_model_is_unloaded_at_once_a_running_one_after_its_job() -> None:
    residency = resident(0)
    use(residency, "a")
    with residency.using(residence("b")):
        for model in ("a", "b", "unknown"):  # from the thread that hears of it
            asking = threading.Thread(target=residency.unload, args=("toy", model, f"request for {model}"))
            asking.start()
            asking.join()
        assert LOADED == ["b"]
    assert LOADED == []
    told = [(entry["request"], entry["model"]) for entry in residency.status()["unloaded"]]
    assert told == [("request for a", "a"), ("request for b", "b")]
    assert all(entry["freed_bytes"] >= 0 for entry in residency.status()["unloaded"])


def test_loads_runs_and_hits_are_counted() -> None:
    residency = resident(0, a=7)
    for already in (False, True):
        assert warm(residency, residence("a"), residency.using(residence("a"), 0))["already_loaded"] is already
    use(residency, "a", "b", "b")
    residency.unload("toy", "b", "request")
    use(residency, "b")
    status = residency.status()
    a, b = status["resident"]["toy"]
    assert (a["model"], a["need_bytes"], a["loads"], a["runs"]) == ("a", 7, 1, 1)
    assert (b["model"], b["need_bytes"], b["loads"], b["runs"]) == ("b", None, 2, 3)
    assert status["used"] == {"toy": {"loads": 3, "runs": 4, "hits": 2}}
    assert a["last_used_at"] < b["last_used_at"]
