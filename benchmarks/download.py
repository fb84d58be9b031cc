"""ZIP throughput against the same bytes as a static file, and the gateway's memory during 16 large downloads."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.servers import plain_app, platform

MIB = 2**20


def bench_download(seconds: float) -> dict[str, Any]:
    """4 × 1 MiB in a ZIP, 16 at a time; then 16 parallel downloads of 200 MB."""
    with platform() as (client, pid):
        url = str(client.base_url).rstrip("/")
        small = _made(client, files=4, size=MIB)
        figures = {"zip": _rate(f"{url}/results/{small}", seconds, "ZIP of 4 x 1 MiB, 16 at a time")}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "static.zip"
            path.write_bytes(client.get(f"/results/{small}").content)
            with plain_app({**os.environ, "STATIC_FILE": str(path)}, "benchmarks.static:app") as static:
                figures["static"] = _rate(f"{static}/file", seconds, "the same as a FileResponse")
        large = _made(client, files=4, size=50_000_000)
        figures["memory"] = _memory(f"{url}/results/{large}", pid)
    return figures


def _made(client: httpx.Client, **body: Any) -> str:
    job = client.post("/toys/play", json=body).json()
    while (status := client.get(job["status_url"]).json()["status"]) != "completed":
        if status in ("failed", "expired"):
            raise RuntimeError("the toy failed")
        time.sleep(0.1)
    return str(job["job_id"])


def _rate(url: str, seconds: float, name: str) -> dict[str, float]:
    received, took = asyncio.run(_drain_many(url, 16, time.perf_counter() + seconds))
    rate = received / took / 1e6
    print(f"{name:<40} {rate:7.0f} MB/s", flush=True)
    return {"mb_per_second": rate}


def _memory(url: str, pid: int) -> dict[str, float]:
    gateway_process = psutil.Process(pid)
    before, peak, stop = gateway_process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], gateway_process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    received, took = asyncio.run(_drain_many(url, 16, 0))
    stop.set()
    watcher.join()
    growth = (peak[0] - before) / MIB
    print(f"16 x 200 MB in parallel: {received / took / 1e6:.0f} MB/s, gateway grew by {growth:.1f} MiB", flush=True)
    return {"mb_per_second": received / took / 1e6, "growth_mib": growth, "before_mib": before / MIB}


async def _drain_many(url: str, connections: int, until: float) -> tuple[int, float]:
    began = time.perf_counter()
    received = await asyncio.gather(*(_drain(url, until) for _ in range(connections)))
    return sum(received), time.perf_counter() - began


async def _drain(url: str, until: float) -> int:
    """Download again and again until the time is over, at least once; the bytes received."""
    where, total = urlsplit(url), 0
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2 * MIB)
    request = f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode()
    while True:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        left = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while left:
            chunk = await reader.read(min(left, MIB))
            if not chunk:
                raise RuntimeError("the download was cut")
            left -= len(chunk)
            total += len(chunk)
        if time.perf_counter() > until:
            writer.close()
            return total
