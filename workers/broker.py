"""Celery's way to Redis, made to survive it: unreadable messages are dropped, and a server that was away is soon found.

Celery itself ends the worker for most unreadable messages, and with it a model that took minutes to load.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty
from typing import Any

import kombu
from celery.app.amqp import AMQP
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


# Celery would look for a server that was away for a while only every 30 s: its jobs would wait for so long.
SEARCH = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2.0}  # seconds between tries


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

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """A full Redis refuses what is written here, and Celery forgets this connection without closing it."""
        try:
            super().register_with_event_loop(connection, loop)
        except Exception:
            self.close_connection(connection)
            raise


class Connection(kombu.Connection):  # type: ignore[misc]
    """Looks often for a server that is away."""

    def ensure_connection(self, *args: Any, **more: Any) -> Any:
        return super().ensure_connection(*args, **SEARCH | more)


class Amqp(AMQP):  # type: ignore[misc]
    Connection = Connection


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
