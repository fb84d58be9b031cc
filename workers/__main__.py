"""`python -m workers`: a Celery worker for the served families; SIGTERM drains it."""

from __future__ import annotations

import os

import workers.parent
import workers.tasks  # noqa: F401  (both register with Celery)
from shared.durability import await_servers
from shared.logging import configure_logging
from workers.celery_app import app, settings
from workers.children import make_room


def main() -> None:
    """Serve until told to stop."""
    configure_logging("worker", level=settings.log_level, json_lines=settings.log_json)  # Celery warns before it does
    await_servers(settings)
    make_room()
    app.worker_main(
        [
            "--quiet",  # its banner is no line of a log
            "worker",
            f"--hostname=worker-{os.getpid()}@%h",
            f"--loglevel={settings.log_level}",
            "--without-gossip",
            "--without-mingle",
        ]
    )


if __name__ == "__main__":
    main()
