"""`make bench`: every figure of the README in one run, side by side. `--only submit,latency,…` runs a part."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.avatars import bench_avatars
from benchmarks.download import bench_download
from benchmarks.latency import bench_drain, bench_latency
from benchmarks.overhead import bench_overhead
from benchmarks.predict import bench_predict
from benchmarks.resources import bench_resources
from benchmarks.status import bench_status
from benchmarks.submit import bench_submit

PARTS: dict[str, Callable[[float], Any]] = {
    "submit": bench_submit,
    "latency": bench_latency,
    "drain": bench_drain,
    "status": bench_status,
    "download": bench_download,
    "overhead": bench_overhead,
    "resources": bench_resources,
    "avatars": bench_avatars,
    "predict": bench_predict,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated")
    parser.add_argument("--seconds", type=float, default=5, help="how long each load lasts")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {platform.machine()}; client and servers share this machine", flush=True
    )
    figures = {}
    for name in args.only.split(","):
        print(f"\n== {name}", flush=True)
        figures[name] = PARTS[name](args.seconds)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
