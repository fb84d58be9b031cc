"""Celery's pool of children, which are ended by SIGKILL only.

SIGTERM that goes to all processes of a worker at once (systemd's default, `kill -- -PGID`) is for the parent to answer:
its children do not heed it, so that they finish their jobs or hand them back.
"""

from __future__ import annotations

from signal import SIGKILL
from typing import Any

from billiard import popen_fork
from celery.concurrency import prefork

# How billiard ends a child at its time limit, in a cold shutdown, and when there are too many.
popen_fork.TERM_SIGNAL = SIGKILL


class TaskPool(prefork.TaskPool):  # type: ignore[misc]
    """As Celery's; a task that is revoked while it runs takes its child with it."""

    def on_start(self) -> None:
        super().on_start()
        terminate = self.terminate_job
        self.terminate_job: Any = lambda pid, signal=None: terminate(pid, SIGKILL)
