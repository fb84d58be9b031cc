"""`python -m services.gateway`: uvicorn with as many processes as the settings say."""

from __future__ import annotations

import gc
import os
import tempfile

import uvicorn
from fastapi import FastAPI

from services.gateway.app import make_app
from services.gateway.metrics.counters import SHARED_FOLDER
from services.gateway.protocol import GatewayProtocol
from shared.logging import configure_logging
from shared.settings import Settings, get_settings
from workers.families import families


def create_app() -> FastAPI:
    """What each uvicorn process serves."""
    settings = get_settings()
    configure_logging("gateway", level=settings.log_level, json_lines=settings.log_json)
    app = make_app(settings, families())
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
    return app


def main() -> None:
    """Serve until told to stop."""
    settings = get_settings()
    if settings.gateway_processes == 1:
        return serve(settings)
    with tempfile.TemporaryDirectory(prefix="atelier-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder  # for the processes to come
        serve(settings)


def serve(settings: Settings) -> None:
    """Run uvicorn and its processes."""
    uvicorn.run(
        "services.gateway.__main__:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.gateway_processes,
        loop="uvloop",
        http=GatewayProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        log_config=None,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
