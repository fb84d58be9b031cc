"""Nothing starts on servers that would break the promises; the one line that it leaves says what to set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.platform import COMMANDS, ROOT, Platform


def refusal(process: str, environment: dict[str, str]) -> str:
    """What the process says as it ends."""
    ended = subprocess.run(
        [sys.executable, "-m", COMMANDS[process]],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode not in (0, None)
    return ended.stderr + ended.stdout


@pytest.mark.parametrize("process", COMMANDS)
def test_a_postgres_that_may_forget_commits(environment: dict[str, str], process: str) -> None:
    said = refusal(process, environment | {"ATELIER_ALLOW_DATA_LOSS": "false", "ATELIER_PORT": "1"})
    assert "fsync=off" in said
    assert "ATELIER_ALLOW_DATA_LOSS" in said


@pytest.mark.parametrize("process", ["gateway", "worker"])
def test_a_clock_that_is_hours_off(environment: dict[str, str], process: str) -> None:
    # A skew smaller than any that two readings can have stands for a wrong clock.
    said = refusal(process, environment | {"ATELIER_MAX_CLOCK_SKEW": "1e-9", "ATELIER_PORT": "1"})
    assert "ATELIER_MAX_CLOCK_SKEW" in said


def test_a_redis_that_evicts(environment: dict[str, str], tmp_path: Path) -> None:
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        platform = Platform(environment, tmp_path)
        try:
            platform.start("gateway")
            assert platform.client.get("/health").json()["healthy"]
            client.config_set("maxmemory-policy", "allkeys-lru")
            assert "noeviction" in refusal("coordinator", environment)
            health = platform.client.get("/health").json()
            assert not health["healthy"]
            assert "noeviction" in health["checks"]["redis"]["error"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            platform.close()
