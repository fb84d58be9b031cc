"""A client that writes down everything that it asked and was told, and never gives up on what it wants."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

PATIENCE = 30.0  # seconds; an answer that takes longer is a hang
PERSISTENCE = 120.0  # seconds for which a request is repeated
PAUSE = 0.1
AGAIN = {409, 429, 502, 503}


@dataclass(slots=True)
class Exchange:
    """One request and what came of it: a status and a body, or `lost`, the reason why there was no answer."""

    at: float
    seconds: float
    tenant: str
    method: str
    path: str
    key: str | None
    status: int | None
    answer: bytes
    lost: str | None

    def __str__(self) -> str:
        told = f"{self.status} {self.answer[:300]!r}" if self.status else f"no answer: {self.lost}"
        return f"{self.method} {self.path} at {self.at:.3f}, {self.seconds:.1f} s, {told}"


@dataclass(slots=True)
class Asked:
    """A job that was accepted, as its client knows it."""

    id: str
    tenant: str
    key: str
    body: dict[str, Any]
    accepted_at: float


@dataclass
class Record:
    """What all clients of one experiment asked and were told."""

    exchanges: list[Exchange] = field(default_factory=list)
    jobs: dict[str, Asked] = field(default_factory=dict)
    unanswered: dict[str, dict[str, Any]] = field(default_factory=dict)  # key → body of what nobody accepted


class Client:
    """One tenant's; its requests go to the gateways in turn. May be used by several threads."""

    def __init__(
        self, record: Record, urls: Sequence[str], tenant: str = "anonymous", headers: Mapping[str, str] | None = None
    ) -> None:
        self._record, self._urls, self.tenant = record, list(urls), tenant
        unlimited = httpx.Limits(max_connections=None)
        self._http = httpx.Client(timeout=PATIENCE, headers=headers, limits=unlimited, verify=False)
        self._turns = itertools.count()
        self._lock = threading.Lock()

    def ask(
        self, method: str, path: str, *, gateway: int | None = None, key: str | None = None, **more: Any
    ) -> tuple[int | None, httpx.Response | None]:
        """One request to one gateway (their numbers begin at 0); status and response, or two Nones."""
        turn = next(self._turns) if gateway is None else gateway
        headers = {"Idempotency-Key": key} if key else None
        at, began = time.time(), time.monotonic()
        response, lost = None, None
        try:
            url = self._urls[turn % len(self._urls)] + path
            response = self._http.request(method, url, headers=headers, **more)
        except httpx.TransportError as error:
            lost = type(error).__name__
        seconds = time.monotonic() - began
        status, answer = (response.status_code, response.content) if response is not None else (None, b"")
        told = Exchange(at, seconds, self.tenant, method, path, key, status, answer, lost)
        with self._lock:
            self._record.exchanges.append(told)
        return status, response

    def submit(self, path: str = "/toys/play", *, key: str = "", seconds: float = PERSISTENCE, **body: Any) -> str:
        """Post a job until somebody accepts it, always with the same key (a new one, if none is named); its id."""
        key = key or uuid.uuid4().hex
        job = self._insist("POST", path, (202,), seconds, key=key, json=body).json()["job_id"]
        with self._lock:
            self._record.jobs[job] = Asked(job, self.tenant, key, body, time.time())
        return str(job)

    def post_once(self, path: str = "/toys/play", *, gateway: int | None = None, **body: Any) -> tuple[int | None, str]:
        """Post a job and take whatever comes; the status, and the id if it was accepted."""
        key = uuid.uuid4().hex
        status, response = self.ask("POST", path, gateway=gateway, key=key, json=body)
        if response is None or status != 202:
            return status, ""
        job = str(response.json()["job_id"])
        with self._lock:
            self._record.jobs[job] = Asked(job, self.tenant, key, body, time.time())
        return status, job

    def cancel(self, job: str, *, seconds: float = PERSISTENCE) -> int:
        """Cancel until somebody says what came of it: 200, 202, or 409 if the job had ended."""
        return self._insist("POST", f"/jobs/{job}/cancel", (200, 202, 409), seconds).status_code

    def status(self, job: str) -> dict[str, Any]:
        return dict(self._insist("GET", f"/status/{job}", (200,), PERSISTENCE).json())

    def result(self, job: str) -> bytes:
        """The ZIP."""
        return self._insist("GET", f"/results/{job}", (200,), PERSISTENCE).content

    def close(self) -> None:
        self._http.close()

    def _insist(self, method: str, path: str, wanted: Sequence[int], seconds: float, **more: Any) -> httpx.Response:
        until = time.monotonic() + seconds
        while True:
            status, response = self.ask(method, path, **more)
            if response is not None and status in wanted:
                return response
            if status is not None and status not in AGAIN and status < 500:
                raise AssertionError(f"{method} {path}: {status} {response.text if response else ''}")
            if time.monotonic() > until:
                raise AssertionError(f"{method} {path}: no answer within {seconds} s; the last was {status}")
            time.sleep(PAUSE)
