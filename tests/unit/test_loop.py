"""The coordinator's loops go on, whatever one round meets."""

from __future__ import annotations

import threading

import pytest

from services.coordinator.loop import Loop


@pytest.mark.parametrize("error", [OSError("away"), ValueError("a bug of ours")])
def test_a_round_that_fails_is_followed_by_the_next(error: Exception) -> None:
    rounds: list[int] = []
    again = threading.Event()

    def body() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise error
        again.set()

    loop = Loop("test", 0.01, body)
    loop.start()
    assert again.wait(10)
    loop.stop()
    loop.join(10)
    assert not loop.is_alive()
