"""`python -m workers`: a Celery worker for the served families; SIGTERM drains it."""

from __future__ import annotations

import os

import workers.parent
import workers.tasks  # noqa: F401  (both register with Celery)
from workers.celery_app import app, settings


def main() -> None:
    """Serve until told to stop."""
    app.worker_main(
        [
            "worker",
            f"--hostname=worker-{os.getpid()}@%h",
            f"--loglevel={settings.log_level}",
            "--without-gossip",
            "--without-mingle",
        ]
    )


if __name__ == "__main__":
    main()
