"""What this gateway process counts: requests, their durations, accepted and replayed jobs, bytes of results."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Counters:
    """Prometheus metrics of one process; the database adds what all processes share (`metrics/endpoints.py`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "atelier_http_requests", "HTTP requests", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "atelier_http_request_seconds", "Time to the response's start", ["route"], registry=self.registry
        )
        self.accepted = Counter("atelier_jobs_accepted", "Jobs committed", ["operation"], registry=self.registry)
        self.replayed = Counter("atelier_jobs_replayed", "Submits that were replays", registry=self.registry)
        self.result_bytes = Counter("atelier_result_bytes", "Bytes of results sent", registry=self.registry)
        self.waiting = Gauge("atelier_waiting_requests", "Requests and streams that wait", registry=self.registry)
