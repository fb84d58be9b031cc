"""Idle memory of every process, and the time from a cold start to the first no-op job's end."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from services.local.processes import usable_port
from services.local.stack import LocalStack, Ports

MIB = 2**20


def bench_resources(_: float) -> dict[str, Any]:
    """The laptop stack of `make run`, twice: the second start finds its data."""
    import os

    os.environ["ATELIER_EXTRA_FAMILIES"] = "tests.toys.family"
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        for name in ("first start", "second start"):
            began = time.perf_counter()
            stack = LocalStack(Path(folder), Ports(*(usable_port(0) for _ in range(4))), print)
            try:
                stack.start()
                httpx.post(f"{stack.url}/toys/play?wait=30", json={}, timeout=60).raise_for_status()
                took = time.perf_counter() - began
                print(f"{name}: no-op job done after {took:.1f} s", flush=True)
                figures[name] = took
                if name == "second start":
                    figures["memory"] = _memory(stack)
            finally:
                stack.stop()
    return figures


def _memory(stack: LocalStack) -> dict[str, float]:
    """Proportional set sizes in MiB: shared pages are counted once."""
    assert stack.supervisor is not None
    roots = {child.name: child.process.pid for child in stack.supervisor.children if child.process}
    roots |= stack.server_pids()
    sizes = {name: _pss(pid) for name, pid in roots.items()}
    for name, size in sizes.items():
        print(f"  {name:<12} {size:6.0f} MiB", flush=True)
    print(f"  {'together':<12} {sum(sizes.values()):6.0f} MiB", flush=True)
    return sizes


def _pss(pid: int) -> float:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().pss for process in family) / MIB
