"""Postgres is away for longer than a lease: jobs that ran meanwhile have not crashed, and neither has their model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.faults.proxy import Network
from tests.platform import Platform, wait_until

RULE = {"ATELIER_LEASE_SECONDS": "6", "ATELIER_HEARTBEAT_SECONDS": "1.5", "ATELIER_BREAKER_JOBS": "1"}


def rows(url: str, query: str) -> list[Any]:
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute(query)
        found = cursor.fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("seconds", [8, 20])
def test_nobody_is_charged(
    environment: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, seconds: float
) -> None:
    url, gate = environment["DATABASE_URL"], tmp_path / "gate"
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    network = Network()
    link = network.link(port)
    platform = Platform(environment | RULE, tmp_path_factory.mktemp("logs"))
    platform.environment["DATABASE_URL"] = url.replace(f":{port}/", f":{link.port}/")
    try:
        platform.start()
        child = platform.child()
        platform.finished(platform.submit())  # the model is loaded
        time.sleep(6)  # the reaper's first lease
        job = platform.submit(until=str(gate))
        running = f"SELECT attempt FROM jobs WHERE id = '{job}' AND state = 'running'"
        assert wait_until(lambda: rows(url, running), 60, "the job to run") == [(1,)]
        link.refuse()
        time.sleep(seconds)
        link.open()
        wait_until(lambda: rows(url, running) == [(2,)], 60, "the second attempt")
        gate.touch()
        assert platform.finished(job)["status"] == "completed"
        assert rows(url, f"SELECT crashes, failures FROM jobs WHERE id = '{job}'") == [(0, 0)]
        assert not rows(url, "SELECT model FROM breakers")
        assert child.is_running(), "its models stay loaded"
    finally:
        platform.close()
        network.close()
