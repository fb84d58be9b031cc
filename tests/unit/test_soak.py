"""The soak's chance can be had again, and its slopes are those of the processes."""

from __future__ import annotations

from itertools import islice

from tests.faults.slopes import Life, Sample, growth
from tests.faults.soak import faults, plan


def test_a_seed_has_one_sequence_that_throws_everything() -> None:
    count = len(faults())
    one, same, other = (list(islice(plan(seed), count)) for seed in (7, 7, 8))
    assert one == same != other
    assert {name for _, name, _ in one} == set(faults())


def test_slopes_count_for_as_long_as_a_life_was_measured_and_not_while_it_warms_up() -> None:
    lives = [
        _life(seconds=60 + 3600, rise=2.0),
        _life(seconds=60 + 7200, rise=5.0),
        _life(seconds=90, rise=1000.0),  # too short to tell
    ]
    (found,) = growth(lives, warm_up=60)
    assert (found.kind, found.lives) == ("worker", 2)
    assert abs(found.hours - 3) < 0.01
    assert abs(found.slopes[0] - (2.0 * 1 + 5.0 * 2) / 3) < 0.01
    assert abs(found.slopes[1]) < 1e-9


def _life(seconds: int, rise: float) -> Life:
    """A process that takes 500 MiB while it warms up and then `rise` an hour."""
    samples = [Sample(at, (min(at, 60) / 60 * 500) + rise * at / 3600, 10, 3) for at in range(0, seconds + 1, 5)]
    return Life("worker", samples)
