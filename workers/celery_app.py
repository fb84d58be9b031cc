"""The Celery application of workers and Flower."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import celeryd_after_setup, setup_logging

from shared.logging import configure_logging
from shared.queue import celery_settings
from shared.settings import get_settings
from workers.broker import Amqp
from workers.families import served_families

settings = get_settings()
app = Celery("atelier", amqp=Amqp, broker=settings.redis_url, include=["workers.tasks"])
app.conf.update(celery_settings({family.name: family.queue for family in served_families().values()}))
app.conf.worker_pool = "workers.pool:TaskPool"


@setup_logging.connect
def _logging(**_: object) -> None:
    configure_logging("worker", level=settings.log_level, json_lines=settings.log_json)


@celeryd_after_setup.connect
def _children_log_as_we_do(**_: object) -> None:
    os.environ.pop("_MP_FORK_LOGLEVEL_", None)  # else billiard writes lines of its own before a child's logs are set up
