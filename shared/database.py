"""Connections of the synchronous processes (psycopg2 through SQLAlchemy), and the base of every table."""

from __future__ import annotations

import socket

from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase

from shared.keepalive import Patience

NAMES = {
    "ck": "%(table_name)s_%(constraint_name)s",
    "fk": "%(table_name)s_%(column_0_name)s_fkey",
    "pk": "%(table_name)s_pkey",
    "uq": "%(table_name)s_%(column_0_name)s_key",
}

# Both sides of a connection: within 11 s each notices that the other's machine, or the way to it, is gone.
PATIENCE = Patience(idle=5, pause=2, probes=3, unread=10)
KEEPALIVES = {  # as libpq names them
    "keepalives_idle": PATIENCE.idle,
    "keepalives_interval": PATIENCE.pause,
    "keepalives_count": PATIENCE.probes,
    "tcp_user_timeout": 1000 * PATIENCE.unread,
}

# Of every connection, said when it is opened (psycopg2 would repeat an isolation level with every transaction).
# The planner never knows how long a queue is at this moment, so it may not bet on a short one: rows come from an index
# and in its order.
SESSION = {
    "default_transaction_isolation": "read committed",
    "lock_timeout": "2000",
    # A process that stands still, or whose network is gone, must not hold rows for as long as TCP keeps hope (hours).
    "idle_in_transaction_session_timeout": "30000",
    "tcp_keepalives_idle": str(PATIENCE.idle),
    "tcp_keepalives_interval": str(PATIENCE.pause),
    "tcp_keepalives_count": str(PATIENCE.probes),
    **({"tcp_user_timeout": str(1000 * PATIENCE.unread)} if hasattr(socket, "TCP_USER_TIMEOUT") else {}),
    "timezone": "UTC",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "jit": "off",
}


class Base(DeclarativeBase):
    """Base of every table; constraint names follow Postgres's own habit."""

    metadata = MetaData(naming_convention=NAMES)


def sqlalchemy_url(url: str) -> str:
    """`postgresql://…` as SQLAlchemy wants it, for psycopg2."""
    return "postgresql+psycopg2://" + url.split("://", 1)[1]


def open_database(
    url: str, *, pool_size: int = 4, name: str = "atelier", ping: bool = True, marks: bool = False
) -> Engine:
    """A pool that gives up on a lock after 2 s and on a connection after 5 s.

    `ping` asks a connection whether it lives before each use; whoever tries again by itself can do without.
    `marks` is for whoever writes only what may be forgotten by a crash of Postgres: every statement is a transaction
    of its own, and its commit does not wait for the disk.
    """
    return create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=ping,
        hide_parameters=True,  # in errors, which are logged: they hold what clients sent
        **({"isolation_level": "AUTOCOMMIT"} if marks else {}),
        connect_args={
            "application_name": name,
            "connect_timeout": 5,
            **KEEPALIVES,
            "options": _options(SESSION | ({"synchronous_commit": "off"} if marks else {})),
        },
    )


def is_cut_off(error: Exception) -> bool:
    """Whether Postgres said nothing at all; what it refuses has a code."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) is None


def _options(session: dict[str, str]) -> str:
    return " ".join(f"-c {name}=" + value.replace(" ", "\\ ") for name, value in session.items())
