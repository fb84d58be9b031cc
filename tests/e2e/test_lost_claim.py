"""The answer to the commit that ends one job and claims the next is lost: the next one waits for no lease."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.faults.proxy import Network
from tests.platform import Platform, wait_until


def rows(url: str, query: str) -> list[Any]:
    connection = psycopg2.connect(url)
    with connection.cursor() as cursor:
        cursor.execute(query)
        found = cursor.fetchall()
    connection.close()
    return found


def test_what_was_claimed_unheard_is_handed_back(
    environment: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url, gate = environment["DATABASE_URL"], tmp_path / "gate"
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    network = Network()
    link = network.link(port)
    patient = {"ATELIER_LEASE_SECONDS": "60", "ATELIER_HEARTBEAT_SECONDS": "15"}
    platform = Platform(environment | patient, tmp_path_factory.mktemp("logs"))
    try:
        platform.start("gateway", "coordinator")
        platform.environment["DATABASE_URL"] = url.replace(f":{port}/", f":{link.port}/")
        platform.start("worker")
        platform.submit(until=str(gate))
        wait_until(lambda: rows(url, "SELECT 1 FROM jobs WHERE state = 'running'"), 60, "the first to run")
        others = [platform.submit() for _ in range(2)]
        link.lose_the_answer_to(b"COMMIT", after=b"SET state = 'completed'")
        gate.touch()
        assert {platform.finished(job, 30)["status"] for job in others} == {"completed"}
        assert link.lost.is_set()
        told = "SELECT crashes, failures, attempts -> 0 ->> 'outcome' FROM jobs ORDER BY id"
        assert rows(url, told) == [(0, 0, "completed"), (0, 0, "drained"), (0, 0, "completed")]
    finally:
        platform.close()
        network.close()
