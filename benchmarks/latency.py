"""One no-op job on an idle system, from POST to result; and how fast one worker drains a backlog of no-ops."""

from __future__ import annotations

import time
from statistics import median, quantiles
from typing import Any

import httpx

from benchmarks.servers import platform

JOBS = 300
BACKLOG = 2000


def bench_latency(_: float) -> dict[str, Any]:
    """By `Prefer: wait`, and by polling the status without a pause."""
    with platform() as (client, _pid):
        _warm(client)
        waited = [_timed(lambda: _wait(client)) for _ in range(JOBS)]
        polled = [_timed(lambda: _poll(client)) for _ in range(JOBS)]
    return {"wait": _report("no-op, Prefer: wait", waited), "poll": _report("no-op, polling", polled)}


def bench_drain(_: float) -> dict[str, Any]:
    """BACKLOG no-op jobs through one worker that hears of the first when all are queued."""
    with platform() as (client, _pid):
        _warm(client)
        blocker = client.post("/toys/play", json={"steps": 400, "step_seconds": 0.1}).json()
        for _ in range(BACKLOG):
            last = client.post("/toys/play", json={}).json()
        with client.stream("GET", last["events_url"]) as events:
            client.post(blocker["cancel_url"])
            began = time.perf_counter()
            for _ in events.iter_raw():  # ends with the last job
                pass
        rate = BACKLOG / (time.perf_counter() - began)
    print(f"drain of {BACKLOG} no-op jobs, one worker: {rate:.0f}/s", flush=True)
    return {"per_second": rate}


def _warm(client: httpx.Client) -> None:
    for _ in range(20):
        client.post("/toys/play?wait=30", json={}).raise_for_status()


def _wait(client: httpx.Client) -> None:
    client.post("/toys/play", json={}, headers={"Prefer": "wait=30"}).raise_for_status()


def _poll(client: httpx.Client) -> None:
    job = client.post("/toys/play", json={}).json()
    while client.get(job["status_url"]).json()["status"] != "completed":
        pass


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def _report(name: str, times: list[float]) -> dict[str, float]:
    p50, p95 = median(times), quantiles(times, n=20)[18]
    print(f"{name:<30} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   (n = {len(times)})", flush=True)
    return {"p50": p50, "p95": p95}
