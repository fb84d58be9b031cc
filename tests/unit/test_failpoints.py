"""Failpoints do what they are told at the passage they are told, and cannot be switched on where others are served."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared import failpoints
from shared.failpoints import PLACES, FailpointError, failpoint
from shared.settings import Settings
from tests.platform import ROOT

LOCAL = {
    "database_url": "postgresql://u:p@127.0.0.1/x",
    "redis_url": "redis://:p@localhost",
    "storage_url": "file:///x",
}
SECRET = "an example that is long enough, 0123456789"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_only_the_named_passage_of_the_named_place_fails(capfd: pytest.CaptureFixture[str]) -> None:
    failpoints.arm("W2=raise@2, W4=raise")
    failpoint("W2")
    failpoint("W3")
    with pytest.raises(FailpointError, match="W2"):
        failpoint("W2")
    failpoint("W2")
    for _ in range(2):
        with pytest.raises(FailpointError, match="W4"):
            failpoint("W4")
    assert capfd.readouterr().err.count("failpoint W4 at ") == 2


@pytest.mark.parametrize("text", ["W2", "W9=kill", "W2=bang", "W2=sleep", "W2=kill@0", "W2=kill W3=kill"])
def test_what_is_not_understood_stops_the_process_by_name(text: str) -> None:
    with pytest.raises(ValidationError, match=r"ATELIER_FAILPOINTS: .*is no failpoint"):
        Settings(**LOCAL, failpoints=text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "production",
    [
        {"enable_auth": True, "secret_key": SECRET},
        {"host": "0.0.0.0", "public_without_auth": True},
        {"trusted_proxies": "10.0.0.1"},
        {"database_url": "postgresql://u:p@db.internal/x"},
        {"redis_url": "redis://:p@cache.internal"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_production_refuses_them_by_name(production: dict[str, object]) -> None:
    assert Settings(**(LOCAL | production)) is not None  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="ATELIER_FAILPOINTS"):
        Settings(**(LOCAL | production), failpoints="W2=kill")  # type: ignore[arg-type]


def test_a_process_arms_them_with_its_settings() -> None:
    program = "from shared.settings import get_settings; from shared.failpoints import failpoint\n"
    program += "failpoint('G1'); get_settings(); failpoint('G1')"
    names = {name.upper(): value for name, value in LOCAL.items()}
    environment = {**names, "PYTHONPATH": str(ROOT), "ATELIER_FAILPOINTS": "G1=kill@1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert b"failpoint G1 at " in done.stderr


def test_each_place_is_one_line_of_the_product() -> None:
    sources = [p for room in ("shared", "services", "workers") for p in Path(ROOT, room).rglob("*.py")]
    lines = [line.strip() for path in sources for line in path.read_text().splitlines()]
    assert {place: lines.count(f'failpoint("{place}")') for place in PLACES} == dict.fromkeys(PLACES, 1)
