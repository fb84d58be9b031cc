"""How soon a TCP connection notices that the other side is gone without a word: TCP alone keeps hope for hours."""

from __future__ import annotations

import socket
from typing import NamedTuple


class Patience(NamedTuple):
    """Seconds: a silent connection is asked after `idle`, then every `pause`, and given up after `probes` questions
    without an answer; so it is when bytes that were sent are not acknowledged for `unread`.
    """

    idle: int
    pause: int
    probes: int
    unread: int


def keep_alive(connection: socket.socket | None, patience: Patience) -> None:
    """Ask this of an open connection; one that is not of TCP needs none of it."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in options(patience).items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def options(patience: Patience) -> dict[int, int]:
    """The same as numbers that TCP knows; not every system has all."""
    named = {
        "TCP_KEEPIDLE": patience.idle,
        "TCP_KEEPINTVL": patience.pause,
        "TCP_KEEPCNT": patience.probes,
        "TCP_USER_TIMEOUT": 1000 * patience.unread,
    }
    return {getattr(socket, name): value for name, value in named.items() if hasattr(socket, name)}
