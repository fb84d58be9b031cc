"""Prints a line of a table as soon as it is known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.load import Load


def row(name: str, load: Load, note: str = "") -> dict[str, Any]:
    """Print a load's figures; the same as a dictionary."""
    print(
        f"{name:<44}{load.per_second:>9.0f}/s   p50 {load.p50:7.1f}   p95 {load.p95:7.1f}   p99 {load.p99:7.1f} ms"
        f"{f'   {load.errors} errors' if load.errors else ''}{f'   {note}' if note else ''}",
        flush=True,
    )
    return asdict(load)
