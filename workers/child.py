"""The child process that holds the device: its connections and its executor, made after the spawn."""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from functools import lru_cache

from celery.signals import worker_process_init

from shared.catalog.reports import Needs, needs_of
from shared.database import open_database
from shared.events import EventPublisher
from shared.logging import get_logger
from shared.settings import get_settings
from shared.storage.open import open_storage
from workers.runtime.devices import choose_device
from workers.runtime.executor import Executor
from workers.runtime.last_words import LastWords
from workers.runtime.residency import Residence, Residency
from workers.runtime.residency_reporter import ResidencyReporter
from workers.runtime.room import hold_room, run_name, words_path

log = get_logger(__name__)


def worker_name(parent: int) -> str:
    """The worker's name in the fleet: its host and the pid of its parent process."""
    return f"{socket.gethostname()}-{parent}"


def child_name(parent: int, pid: int) -> str:
    """A child's name in leases. It tells the run: a container that starts again has the host name and pids it had."""
    return f"{worker_name(parent)}/{run_name()}.{pid}"


def pid_of(name: str) -> int | None:
    """The pid of a child of this worker; None if it was one of an earlier run."""
    run, _, pid = name.rsplit("/", 1)[1].rpartition(".")
    return int(pid) if run == run_name() else None


@lru_cache
def last_words() -> LastWords:
    """What this process says is kept for its parent from now on."""
    try:
        words = LastWords(words_path(os.getpid()))
    except OSError as error:  # such as a full disk; jobs can run all the same
        log.warning("nobody will know what this process said last", error=str(error))
        words = LastWords()
    logging.getLogger().addHandler(words)
    return words


@lru_cache
def executor() -> Executor:
    """This process's executor; torch is imported here at the earliest, never in the parent."""
    settings = get_settings()
    engine = open_database(settings.database_url, pool_size=3, name="atelier-worker", ping=False)
    name = worker_name(os.getppid())

    def needs(residence: Residence) -> Needs:
        with engine.connect() as connection:
            return needs_of(connection, residence.family, residence.model)

    device = choose_device(settings.device)
    residency = Residency(device, settings.memory_fraction, budget=settings.model_memory_bytes, needs=needs)
    reporter = ResidencyReporter(settings.database_url, engine, residency, name)
    reporter.start()
    return Executor(
        settings,
        engine,
        open_storage(settings.storage_url, settings.s3_endpoint_url, settings.s3_region),
        EventPublisher(settings.redis_url),
        residency,
        child_name(os.getppid(), os.getpid()),
        reporter.tell,
        last_words(),
    )


@worker_process_init.connect
def _on_start(**_: object) -> None:
    with suppress(OSError):  # who cleans temporary folders up may have taken it
        hold_room()
    last_words()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # also what it starts does not heed it
    # The parent sends this when it is asked to stop; it does not interrupt a step that runs.
    signal.signal(signal.SIGUSR2, lambda *_: executor().drain())
