"""Progress and "something changed" over Redis: comfort, never truth. A wiped Redis costs granularity only."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from uuid import UUID

import redis

PROGRESS_TTL = 3600  # seconds that the last progress of a silent job is kept
CHANGED = b"changed"  # the row has moved: read it


def channel(job_id: UUID) -> str:
    """The pub/sub channel of one job."""
    return f"atelier:job:{job_id}"


def progress_key(job_id: UUID) -> str:
    """Where the newest progress of a running job is kept, previews included."""
    return f"atelier:progress:{job_id}"


def encode_progress(progress: dict[str, Any]) -> bytes:
    """A progress message; every one is the whole current state."""
    return json.dumps(progress, separators=(",", ":")).encode()


def decode_progress(message: bytes | str) -> dict[str, Any] | None:
    """What a worker told; None for what is no progress, since anybody who reaches Redis can write there."""
    try:
        progress = json.loads(message)
    except ValueError:
        return None
    return progress if isinstance(progress, dict) else None


class EventPublisher:
    """The workers' and the coordinator's side; a Redis that is down or slow is ignored after 0.5 s."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)

    def progress(self, job_id: UUID, progress: dict[str, Any]) -> None:
        """Tell the newest progress; the attempt number in it lets readers drop a zombie's."""
        message = encode_progress(progress)
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(progress_key(job_id), message, ex=PROGRESS_TTL)
        pipe.publish(channel(job_id), message)
        self._send(pipe)

    def changed(self, *job_ids: UUID) -> None:
        """The rows of these jobs have moved."""
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.publish(channel(job_id), CHANGED)
        self._send(pipe)

    def close(self) -> None:
        self._redis.close()

    def _send(self, pipe: redis.client.Pipeline) -> None:
        with suppress(redis.RedisError):  # whoever waits re-reads the row every second anyway
            pipe.execute()
