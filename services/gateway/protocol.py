"""What uvicorn answers by itself, before there is a request, in the words and with the headers of all other answers."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.gateway.errors import problem
from services.gateway.middleware import SECURITY_HEADERS
from shared.errors import ValidationFailed
from shared.ids import new_id


class GatewayProtocol(HttpToolsProtocol):
    """HTTP/1.1. An offer to upgrade (WebSocket, h2c) is declined by answering as if it had not been made."""

    def send_400_response(self, msg: str) -> None:
        """The answer to bytes that are no HTTP request."""
        request_id = str(new_id())
        answer = problem(ValidationFailed("This is no valid HTTP request."), request_id)
        answer.headers.update(SECURITY_HEADERS | {"X-Request-ID": request_id, "Connection": "close"})
        lines = [name + b": " + value for name, value in answer.raw_headers]
        head = b"\r\n".join([b"HTTP/1.1 400 Bad Request", *lines])
        self.transport.write(head + b"\r\n\r\n" + bytes(answer.body))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Strangers choose how often that happens."""
