"""A closed-loop HTTP load from one process: every connection posts again as soon as it has its answer.

It speaks HTTP/1.1 over raw asyncio streams, because a full client would cost more than the servers it measures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured: requests a second, latency quantiles in ms, answers that were not 2xx."""

    per_second: float
    p50: float
    p95: float
    p99: float
    errors: int


def measure(method: str, url: str, body: Any | None, connections: int, seconds: float) -> Load:
    """Drive `url` with so many connections for so long."""
    return uvloop.run(_drive(method, url, body, connections, seconds))


async def _drive(method: str, url: str, body: Any | None, connections: int, seconds: float) -> Load:
    where = urlsplit(url)
    payload = json.dumps(body).encode() if body is not None else b""
    path = where.path + (f"?{where.query}" if where.query else "")
    head = f"{method} {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload
    latencies: list[float] = []
    errors = [0]
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    workers = [_connection(where.hostname, where.port, request, until, latencies, errors) for _ in range(connections)]
    await asyncio.gather(*workers)
    took = time.perf_counter() - began
    latencies.sort()

    def quantile(share: float) -> float:
        return 1000 * latencies[min(len(latencies) - 1, int(share * len(latencies)))]

    return Load(len(latencies) / took, quantile(0.5), quantile(0.95), quantile(0.99), errors[0])


async def _connection(
    host: str | None, port: int | None, request: bytes, until: float, latencies: list[float], errors: list[int]
) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            mark = lower.find(b"content-length:")
            if mark >= 0:
                await reader.readexactly(int(lower[mark + 15 : lower.index(b"\r\n", mark)]))
            latencies.append(time.perf_counter() - began)
            errors[0] += not head.startswith(b"HTTP/1.1 2")
    finally:
        writer.close()


if __name__ == "__main__":
    method, url, body, connections, seconds = json.loads(sys.argv[1])
    result = measure(method, url, body, connections, seconds)
    print(json.dumps([result.per_second, result.p50, result.p95, result.p99, result.errors]))
