"""A way out for libraries that bring a client of their own: httpx2 on top, the guarded client below."""

from __future__ import annotations

import httpx2

from shared.egress.client import Asking, Egress


class GuardedTransport(httpx2.BaseTransport):
    """Every request of an `httpx2.Client`, each redirect too, is one of this Egress; raises EgressError.

    Answers are read whole, of at most `limit` bytes.
    """

    def __init__(self, egress: Egress, limit: int, asking: Asking) -> None:
        self._egress, self._limit, self._asking = egress, limit, asking

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        asking = Asking(
            {name: value for name, value in request.headers.items() if name.lower() not in OURS},
            seconds=self._asking.seconds,
            silence=self._asking.silence,
            watch=self._asking.watch,
        )
        content = request.read() or None
        with self._egress.ask(request.method, str(request.url), content, self._limit, asking) as answer:
            return httpx2.Response(answer.status, headers=dict(answer.headers), content=b"".join(answer.chunks))


OURS = {"host", "accept-encoding", "user-agent", "connection", "content-length", "transfer-encoding"}
