from __future__ import annotations

from pathlib import Path

import httpx

from tests.platform import Platform


def test_metrics_of_all_processes_are_one(environment: dict[str, str], tmp_path: Path) -> None:
    platform = Platform(environment | {"ATELIER_GATEWAY_PROCESSES": "2"}, tmp_path)
    try:
        platform.start("gateway")
        address = f"http://127.0.0.1:{platform.port}"
        for _ in range(16):  # a connection each: the kernel deals them out to both processes
            assert httpx.post(f"{address}/toys/play", json={}).status_code == 202
        told = {httpx.get(f"{address}/metrics").json()["jobs_accepted"] for _ in range(16)}
        assert told == {16}
        text = httpx.get(f"{address}/metrics/prometheus").text
        assert 'atelier_jobs_accepted_total{operation="toy.play"} 16.0' in text
        assert "atelier_waiting_requests 0.0" in text
    finally:
        platform.close()
