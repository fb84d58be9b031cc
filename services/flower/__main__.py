"""`python -m services.flower`: Flower, which shows nothing at all before the password is right.

Flower's own basic authentication leaves /metrics, /healthcheck, /login and its files open. Here every address asks.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import signal
from typing import Any

from flower.app import Flower
from flower.options import default_options
from flower.urls import settings as flower_settings
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from shared.logging import configure_logging
from shared.settings import get_settings
from workers.celery_app import app

MAX_TASKS, FORGET_WORKERS = 5000, 60  # tasks in memory; seconds after which a worker that is gone is not shown


class GuardedFlower(Flower):
    """Flower, or for whom the password is not right a 401 and nothing else. Without a password everybody is let in."""

    def __init__(self, password: str | None, **more: Any) -> None:
        self._password = password
        super().__init__(**more)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        if self._password is None or is_right(request.headers.get("Authorization", ""), self._password):
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, Refusal)


class Refusal(RequestHandler):
    """401 for every address and method."""

    def check_xsrf_cookie(self) -> None:
        """There is nothing to forge here."""

    def prepare(self) -> None:
        self.set_status(401)
        self.set_header("WWW-Authenticate", 'Basic realm="Flower"')
        self.set_header("Content-Type", "text/plain")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")
        self.finish("Authentication required")


def is_right(header: str, password: str) -> bool:
    """Whether the Authorization header holds this `user:password`."""
    scheme, _, credentials = header.partition(" ")
    try:
        given = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given, password.encode())


def main() -> None:
    """Serve until told to stop; operations on workers and tasks are switched off."""
    settings = get_settings()
    configure_logging("flower", level=settings.log_level, json_lines=settings.log_json)
    if settings.enable_auth and settings.flower_auth is None:
        raise SystemExit("settings: where ENABLE_AUTH=true Flower needs ATELIER_FLOWER_AUTH, as user:password")
    password = settings.flower_auth.get_secret_value() if settings.flower_auth else None
    options = default_options
    options.address, options.port = settings.flower_host, settings.flower_port
    options.read_only, options.max_tasks, options.purge_offline_workers = True, MAX_TASKS, FORGET_WORKERS
    options.basic_auth = [password] if password else []
    page = GuardedFlower(password, capp=app, options=options, **flower_settings)
    page.start_http_server()
    signal.signal(signal.SIGTERM, _stop)
    try:
        page.start()
    except (KeyboardInterrupt, SystemExit):
        page.stop()


def _stop(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
