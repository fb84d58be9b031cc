"""What a soak says of growth: right for a line, and not of processes that have ended."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import psutil
import pytest

from tests.faults.slopes import Life, Sample, growth, look


def test_the_slope_of_a_line() -> None:
    steady = [Sample(at, 100, 20, 5) for at in range(0, 600, 5)]
    growing = [Sample(at, 100 + at / 3600 * 12, 20, 5) for at in range(0, 600, 5)]
    [found] = growth([Life("gateway", steady), Life("gateway", growing)], warm_up=60)
    assert (found.lives, found.memory) == (2, pytest.approx(101, abs=0.1))
    assert found.slopes == pytest.approx((6, 0, 0))


def test_an_ended_process_takes_nothing() -> None:
    process = subprocess.Popen(["sleep", "60"])
    seen = look(psutil.Process(process.pid))
    assert seen is not None
    assert seen.memory > 0
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still nobody's
    with suppress(psutil.Error):
        assert look(psutil.Process(process.pid)) is None
    process.wait()
