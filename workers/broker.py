"""Celery's way to Redis, made to survive what lies there: a message that nobody can read is told of and dropped.

Celery itself ends the worker for most of them, and with it a model that took minutes to load.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as celerys

from shared.logging import get_logger

log = get_logger(__name__)

Handler = Callable[..., Any]
# Trouble of the connection, which Celery mends by a new one. A KeyError, which it counts so, is a message's fault here.
CONNECTION = (
    Empty,
    *(error for error in celerys.Transport.connection_errors if error is not KeyError),
    *celerys.Transport.channel_errors,
)


class Channel(celerys.Channel):  # type: ignore[misc]
    """Drops what is no JSON, has no envelope, or has headers that no task could have."""

    def basic_consume(self, queue: str, no_ack: bool, callback: Handler, consumer_tag: str, **more: Any) -> Any:
        def heard(message: Any) -> Any:
            try:
                return callback(message)
            except CONNECTION:
                raise
            except Exception:
                _dropped()
                message.reject()  # else it would count as the one message that this worker may have in hand

        return super().basic_consume(queue, no_ack, heard, consumer_tag, **more)

    def _brpop_read(self, **options: Any) -> Any:
        return _or_dropped(super()._brpop_read, **options)

    def _receive(self) -> Any:
        return _or_dropped(super()._receive)


class Transport(celerys.Transport):  # type: ignore[misc]
    Channel = Channel


def _or_dropped(read: Handler, **options: Any) -> Any:
    try:
        return read(**options)
    except CONNECTION:
        raise
    except Exception:
        _dropped()
        return None


def _dropped() -> None:
    log.warning("a message that nobody can read, dropped", exc_info=True)


# By their names: an address keeps its scheme, which tells whether the connection is encrypted.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
