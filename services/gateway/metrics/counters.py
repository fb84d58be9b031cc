"""What the gateway counts: requests, their durations, accepted and replayed jobs, bytes of results.

With several gateway processes each counts into files of its own in a shared folder, and whichever is asked adds all up.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported


class Counters:
    """Prometheus metrics of the gateway; the database adds what it knows (`metrics/service.py`)."""

    def __init__(self) -> None:
        self._own = CollectorRegistry()
        self.requests = Counter(
            "atelier_http_requests", "HTTP requests", ["method", "route", "status"], registry=self._own
        )
        self.seconds = Histogram(
            "atelier_http_request_seconds", "Time to the response's start", ["route"], registry=self._own
        )
        self.accepted = Counter("atelier_jobs_accepted", "Jobs committed", ["operation"], registry=self._own)
        self.replayed = Counter("atelier_jobs_replayed", "Submits that were replays", registry=self._own)
        self.result_bytes = Counter("atelier_result_bytes", "Bytes of results sent", registry=self._own)
        self.damaged_results = Counter(
            "atelier_results_damaged",
            "Downloads that ended at a stored file that is not what its job made",
            registry=self._own,
        )
        self.waiting = Gauge(
            "atelier_waiting_requests",
            "Requests and streams that wait",
            registry=self._own,
            multiprocess_mode="livesum",
        )

    def registry(self) -> CollectorRegistry:
        """The figures of all processes of this gateway."""
        folder = os.environ.get(SHARED_FOLDER)
        if folder is None:
            return self._own
        for file in Path(folder).glob("gauge_live*.db"):
            pid = int(file.stem.rsplit("_", 1)[1])
            if not psutil.pid_exists(pid):  # what a dead process left does not wait any more
                mark_process_dead(pid, folder)
        together = CollectorRegistry()
        MultiProcessCollector(together, folder)
        return together

    def totals(self) -> dict[str, float]:
        """Every counter's sum over its labels, by name without prefix: requests, accepted, …"""
        totals: dict[str, float] = {}
        for metric in self.registry().collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    name = sample.name.removeprefix("atelier_").removesuffix("_total")
                    totals[name] = totals.get(name, 0) + sample.value
        return totals
