"""The HTTP edge: how long a client may take over its request and its answer, and what uvicorn answers by itself, before
there is a request, in the words and with the headers of all other answers.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import Any, cast

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.gateway.errors import problem
from services.gateway.lingering import QUIET, LingeringTransport
from services.gateway.middleware import SECURITY_HEADERS
from shared.errors import AtelierError, RequestTimedOut, ValidationFailed
from shared.ids import new_id
from shared.keepalive import Patience, keep_alive
from shared.settings import get_settings

GONE = Patience(idle=30, pause=10, probes=3, unread=60)  # of clients that vanish, which no stream would ever notice
LOOK = 1.0  # seconds between two looks at a connection
UNWANTED = 16 * 2**20  # bytes of a body that may still arrive after its answer; who sends more does not listen
FORGET = struct.pack("ii", 1, 0)  # SO_LINGER: what is not sent yet need not be sent
STATUS_LINES = {400: b"HTTP/1.1 400 Bad Request", 408: b"HTTP/1.1 408 Request Timeout"}


class GatewayProtocol(HttpToolsProtocol):
    """HTTP/1.1. An offer to upgrade (WebSocket, h2c) is declined by answering as if it had not been made.

    uvicorn itself waits for ever for a head, a body, and a client that does not read. Here a head must be complete
    within `header_seconds`, and whoever sends a body or reads an answer must do so at `transfer_bytes_per_second` on
    average, with `transfer_grace_seconds` to spare. Time in which the gateway keeps the client waiting is not counted.
    The rest of a body that was answered before its end is taken up to `UNWANTED`, so that its client hears the answer;
    if more is announced, or nobody knows how much, the answer says that the connection closes.
    """

    transport: LingeringTransport  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = get_settings()
        self._head_seconds = settings.header_seconds
        self._grace, self._rate = settings.transfer_grace_seconds, settings.transfer_bytes_per_second
        self._head_since: float | None = None
        self._body_is_whole = True
        self._reading, self._received = 0.0, 0  # seconds spent on this request's body, and its bytes so far
        self._quiet, self._unwanted = 0.0, 0  # while the connection lingers: seconds, and bytes
        self._writing, self._drained, self._unsent = 0.0, 0, 0  # the same for the answer, and what still waits
        self._look_timer: asyncio.TimerHandle | None = None
        self._gateway, self.app = self.app, self._serve
        self._running: RequestResponseCycle | None = None  # `cycle` is the one that came last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        lingering = LingeringTransport(transport, lambda: not self._body_is_whole)
        super().connection_made(cast("asyncio.Transport", lingering))
        keep_alive(transport.get_extra_info("socket"), GONE)
        self._head_since = self.loop.time()
        self._look_timer = self.loop.call_later(LOOK, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:  # with others behind it
            self._running.disconnected = True
            self._running.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()  # the request before may have ended with these same bytes
        super().on_message_begin()
        if self._head_since is None:
            self._head_since = self.loop.time()

    def on_headers_complete(self) -> None:
        self._head_since, self._body_is_whole = None, False
        self._reading, self._received = 0.0, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_is_whole = True
        super().on_message_complete()
        if self.cycle.response_complete:  # long before its body's end: uvicorn no longer waits for the next request
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.lingers:
            self.flow.resume_reading()

    def data_received(self, data: bytes) -> None:
        if not self.transport.lingers:
            return super().data_received(data)
        self._quiet, self._unwanted = 0.0, self._unwanted + len(data)
        if self._unwanted > UNWANTED:
            self.transport.abort()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The gateway; its answer says so if the connection closes because too much of the body is still to come."""
        if not self._is_unfinished(scope):
            return await self._gateway(scope, receive, send)

        async def honestly(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_unfinished(scope) and self._rest() > UNWANTED:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._gateway(scope, receive, honestly)

    def _is_unfinished(self, scope: Scope) -> bool:
        """Whether this request's body is still arriving; where another request has come, it is not."""
        return self.cycle.scope is scope and not self._body_is_whole

    def _rest(self) -> float:
        """Bytes of the body that are still to come; infinite if nobody knows, or if the client waits for a 100."""
        if self.cycle.waiting_for_100_continue:
            return inf
        length = next((int(value) for name, value in self.headers if name == b"content-length"), inf)
        return length - self._received

    def _look(self) -> None:
        """Once a second: is the client too slow? Also while the connection closes, which waits for the client too."""
        self._look_timer = self.loop.call_later(LOOK, self._look)
        if self.transport.lingers:
            self._look_at_lingering()
        elif self.transport.is_closing():
            pass
        elif self._head_since is not None and self.loop.time() - self._head_since > self._head_seconds:
            self._end_slow_request("The head of the request did not arrive in time.")
        elif self._awaits_body():
            self._reading += LOOK
            if self._is_too_slow(self._reading, self._received):
                self._end_slow_request("The body arrives too slowly.")
        self._look_at_writing()

    def _awaits_body(self) -> bool:
        return not self._body_is_whole and not self.flow.read_paused

    def _look_at_lingering(self) -> None:
        self._quiet += LOOK
        self._reading += LOOK
        if self._quiet > QUIET or self._is_too_slow(self._reading, self._received + self._unwanted):
            self.transport.close()

    def _look_at_writing(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self._writing, self._drained, self._unsent = 0.0, 0, 0
            return
        self._writing += LOOK
        self._drained += max(0, self._unsent - unsent)
        self._unsent = unsent
        if self._is_too_slow(self._writing, self._drained):  # there is no way to tell: it does not read
            # The kernel would go on for hours with the megabytes that it holds for each of them.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, FORGET)
            self.transport.abort()

    def _is_too_slow(self, seconds: float, done: int) -> bool:
        return seconds > self._grace + done / self._rate

    def _end_slow_request(self, message: str) -> None:
        if self._is_answering() or (self.cycle is not None and self.cycle.response_started and self.cycle.more_body):
            self.transport.abort()  # it has its answer, or a part of it: there is no place for another
        elif self._head_since is not None and not self.scope:
            self.transport.close()  # not a byte came: nobody waits for an answer
        else:
            self._answer(RequestTimedOut(message))

    def send_400_response(self, msg: str) -> None:
        """The answer to bytes that are no HTTP request; in the middle of another it would be taken for a part of it."""
        if self._is_answering():
            self.transport.abort()
        else:
            self._answer(ValidationFailed("This is no valid HTTP request."))

    def _is_answering(self) -> bool:
        return self._running is not None and self._running.response_started and not self._running.response_complete

    def _answer(self, error: AtelierError) -> None:
        """Send the error as the gateway itself does, and close."""
        request_id = str(new_id())
        answer = problem(error, request_id)
        answer.headers.update(SECURITY_HEADERS | {"X-Request-ID": request_id, "Connection": "close"})
        lines = [name + b": " + value for name, value in answer.raw_headers]
        head = b"\r\n".join([STATUS_LINES[error.status], *lines])
        self.transport.write(head + b"\r\n\r\n" + bytes(answer.body))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Strangers choose how often that happens."""
