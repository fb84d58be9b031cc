"""Whether a client is still there."""

from __future__ import annotations

from starlette.types import Receive


async def until_left(receive: Receive) -> None:
    """Return when the client has left, or has its whole answer; nothing of its body is wanted any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
