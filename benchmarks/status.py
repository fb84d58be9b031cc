"""GET /status with 1,000 and with 1,000,000 finished jobs in the table."""

from __future__ import annotations

from typing import Any

import httpx

from benchmarks.load import measure
from benchmarks.servers import backing, execute, gateway
from benchmarks.table import row

FINISHED = """
INSERT INTO jobs (id, owner, family, operation, input, state, turn, attempt, result_attempt, output, manifest,
                  started_at, finished_at)
SELECT gen_random_uuid(), 'anonymous', 'toy', 'toy.play', '{{}}', 'completed', 1, 1, 1, '{{}}', '[]', now(), now()
FROM generate_series(1, {count})
"""


def bench_status(seconds: float) -> dict[str, Any]:
    """64 connections on one finished job, and p50 of a submit beside the same table."""
    figures: dict[str, Any] = {}
    with backing() as environment:
        for total, more in ((1_000, 1_000), (1_000_000, 999_000)):
            execute(environment, FINISHED.format(count=more))
            execute(environment, "VACUUM ANALYZE jobs")
            with gateway(environment) as (url, _):
                job_id = httpx.get(f"{url}/jobs?limit=1").json()["jobs"][0]["job_id"]
                measure("GET", f"{url}/status/{job_id}", None, 64, 1)
                load = measure("GET", f"{url}/status/{job_id}", None, 64, seconds)
                figures[f"status, {total}"] = row(f"status, {total:,} finished jobs, 64 conn.", load)
                load = measure("POST", f"{url}/toys/play", {}, 64, seconds)
                figures[f"submit, {total}"] = row(f"submit, {total:,} finished jobs, 64 conn.", load)
                execute(environment, "DELETE FROM jobs WHERE state = 'queued'")
    return figures
