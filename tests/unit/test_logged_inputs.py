"""What the settings let logs say of a job's input."""

from __future__ import annotations

from workers.runtime.logged_inputs import LETTERS, described

INPUT = {"prompt": "a red circle on a very large and very blue background", "seed": 7, "views": ["x" * 99]}


def test_by_default_nothing() -> None:
    assert described(INPUT, "none") is None


def test_a_hash_tells_equal_inputs_from_others() -> None:
    found = described(INPUT, "hash")
    assert found == described(dict(reversed(INPUT.items())), "hash")
    assert found != described(INPUT | {"seed": 8}, "hash")
    assert "red" not in found


def test_texts_are_cut_after_what_is_secret_in_them_is_gone() -> None:
    found = described(INPUT | {"source": "https://somebody:hunter2hunter2hunter2hunter2@example.com/"}, "start")
    assert found["prompt"] == str(INPUT["prompt"])[:LETTERS] + "…"
    assert found["seed"] == 7
    assert len(found["views"][0]) == LETTERS + 1
    assert "hunter" not in str(found)
