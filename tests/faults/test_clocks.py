"""Clocks that are hours off: Postgres's is the one that counts."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.accounts import AUTH, register
from tests.faults.history import History
from tests.faults.load import submit
from tests.faults.rig import Rig

Size = Callable[[int, int], int]
Off = Callable[[int], dict[str, str]]
TOLERANCE = 300  # seconds that receivers of webhooks allow
CLAIMS = "SELECT count(*) FROM moves WHERE before = 'queued' AND state = 'running' AND job = ANY(%s::uuid[])"

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory) -> Off:
    """The environment of a process whose clock is so many hours off."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, Path(__file__).with_name("clock.c")], check=True)
    return lambda hours: {
        "LD_PRELOAD": str(library),
        "CLOCK_OFFSET": str(hours * 3600),
        "ATELIER_MAX_CLOCK_SKEW": "0",
    }


@pytest.mark.parametrize("hours", [2, -2])
def test_clocks_that_are_off(hours: int, off: Off, rig: Rig, history: History, size: Size) -> None:
    """The clocks of a worker, a gateway and both coordinators are two hours off"""
    rig.broke()
    rig.start("worker-1", "gateway-1", "coordinator-1", "coordinator-2", ATELIER_DEADLINE_SECONDS="600", **off(hours))
    # Two of these are at work for three leases, while others look whose leases have ended.
    submit(history, 4, steps=60, step_seconds=0.1)
    submit(history, size(8, 40))
    history.ended()
    assert set(history.states().values()) == {"completed"}
    assert rig.postgres.rows(CLAIMS, history.jobs) == [(len(history.jobs),)], "each was claimed once"
    client = history.client()
    for job in history.jobs[:2]:  # one gateway each
        client.result(job)
    history.verify()
    assert rig.receiver is not None
    assert abs(rig.receiver.sent_at - time.time()) < TOLERANCE


def test_a_token_of_a_gateway_whose_clock_is_off(off: Off, rig: Rig, history: History) -> None:
    """A gateway's clock is two hours off, and its tokens are shown to another"""
    submit(history, 4)
    rig.broke()
    rig.start("gateway-1", **AUTH, **off(2))
    rig.start("gateway-2", **AUTH)
    ahead, right = rig.url("gateway-1"), rig.url("gateway-2")
    with httpx.Client(base_url=ahead, timeout=30) as http:
        headers = register(http, "ada").headers
    assert httpx.get(f"{ahead}/jobs", headers=headers, timeout=30).status_code == 200
    assert httpx.get(f"{right}/jobs", headers=headers, timeout=30).status_code == 401
    history.ended()
    history.verify()
