"""When a refused client is told to come back."""

from __future__ import annotations

import pytest

from shared.jobs.pace import LONGEST, Pace


@pytest.mark.parametrize(
    ("pace", "excess", "expected"),
    [
        (Pace(seconds=3.0, workers=2, queued=100), 40, 60),
        (Pace(seconds=3.0, workers=1, queued=100), 40, 120),
        (Pace(seconds=0.002, workers=2, queued=100), 3, 1),
        (Pace(seconds=None, workers=2, queued=100), 3, 1),
        (Pace(seconds=900.0, workers=1, queued=100), 7, LONGEST),
        (Pace(seconds=3.0, workers=0, queued=100), 1, LONGEST),
    ],
    ids=["two-workers", "one-worker", "quick-jobs", "nothing-known", "slow-jobs", "no-worker"],
)
def test_the_time_is_how_long_workers_take_for_what_is_too_much(pace: Pace, excess: int, expected: int) -> None:
    told = [pace.seconds_until(excess) for _ in range(200)]
    assert all(1 <= seconds <= LONGEST for seconds in told)
    assert all(0.9 * expected - 1 <= seconds <= 1.1 * expected + 1 for seconds in told)
    assert len(set(told)) > 1 or expected == 1, "those who are refused together do not come back together"
