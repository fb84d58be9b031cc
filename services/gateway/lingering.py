"""Closing a connection without losing the answer (RFC 9112, section 9.6).

A socket that is closed while bytes wait in it, or come afterwards, is reset, and a reset may take an answer with it
that the client has not read yet. So the answer's side is closed first, and what still comes is taken for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

QUIET = 5.0  # seconds without a byte, after which the client is believed to have heard


class LingeringTransport:
    """A transport that closes one way as long as `more_may_come`; a second `close` is a real one."""

    def __init__(self, transport: asyncio.Transport, more_may_come: Callable[[], bool]) -> None:
        self._transport, self._more_may_come = transport, more_may_come
        self.lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether no answer can be written any more."""
        return self.lingers or self._transport.is_closing()

    def close(self) -> None:
        """Send what is written; close at once, or when the client has closed or is quiet."""
        if self.lingers or self._transport.is_closing() or not self._more_may_come():
            self._transport.close()
        else:
            self.lingers = True
            self._transport.write_eof()
