"""The house model: it follows its function, and answers with the same number everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from workers.predict.house.score import held_out_error
from workers.predict.items import example_row

# Ten 16-bit numbers of the text's SHA-256, between -5 and 5.
HELLO = [-3.244, -1.964, -1.262, 1.369, -3.48, -2.689, 2.724, 3.852, -3.942, -3.814]


def test_it_follows_its_function_on_rows_that_it_was_not_fitted_to() -> None:
    error = held_out_error()
    assert error["rms"] <= 0.01
    assert error["largest"] <= 0.1
    assert error["spread"] >= 20 * error["rms"], "it is no constant"


def test_the_same_input_is_the_same_number_everywhere(ask: Any) -> None:
    assert ask("example", [1, 2, 3, 4, 5])["result"] == pytest.approx(0.902765, abs=2e-6)
    assert ask("example", "hello")["result"] == pytest.approx(ask("example", example_row("hello"))["result"], abs=2e-6)


def test_missing_numbers_are_zeros_and_texts_are_stable_numbers(ask: Any) -> None:
    assert ask("example", [2, -1])["result"] == ask("example", [2, -1] + [0] * 8)["result"]
    assert [round(number, 3) for number in example_row("hello")] == HELLO
    assert ask("example", "hello")["result"] != ask("example", "hallo")["result"]
