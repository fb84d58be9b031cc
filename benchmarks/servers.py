"""Starts the servers that are measured, each alone, on the same Postgres (with fsync) and Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg2

from services.local.postgres import EmbeddedPostgres
from services.local.processes import usable_port
from services.local.redis import EmbeddedRedis
from services.local.stack import ensure_database

ROOT = Path(__file__).parent.parent
UNLIMITED = {"ATELIER_QUEUE_SIZE": "0", "ATELIER_MAX_LIVE_JOBS": "0", "LOG_LEVEL": "WARNING"}


@contextmanager
def backing() -> Iterator[dict[str, str]]:
    """Postgres and Redis in a temporary folder; the environment that names them."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        home = Path(folder)
        postgres, redis = EmbeddedPostgres(home / "postgres", port=0), EmbeddedRedis(home / "redis", port=0)
        try:
            server = postgres.start()
            environment = {
                **os.environ,
                **UNLIMITED,
                "DATABASE_URL": ensure_database(server, "atelier"),
                "REDIS_URL": redis.start(),
                "STORAGE_URL": (home / "storage").as_uri(),
                "ATELIER_EXTRA_FAMILIES": "tests.toys.family",
            }
            subprocess.run([sys.executable, "-m", "migrations"], env=environment, check=True, cwd=ROOT)
            yield environment
        finally:
            redis.stop()
            postgres.stop()


@contextmanager
def process(environment: dict[str, str], *command: str, ready: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the block ends; with `ready` it must answer that address first."""
    child = subprocess.Popen([sys.executable, "-m", *command], env=environment, cwd=ROOT, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while ready and not _answers(ready):
            if time.monotonic() > deadline or child.poll() is not None:
                raise RuntimeError(f"{command} does not answer at {ready}")
            time.sleep(0.05)
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def gateway(environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Atelier's gateway, one process; its address and pid."""
    port = usable_port(0)
    with process(
        environment | {"ATELIER_PORT": str(port)}, "services.gateway", ready=f"http://127.0.0.1:{port}/ready"
    ) as child:
        yield f"http://127.0.0.1:{port}", child.pid


@contextmanager
def platform() -> Iterator[tuple[httpx.Client, int]]:
    """Gateway, coordinator and one worker, ready for jobs; a client, and the gateway's pid."""
    with (
        backing() as environment,
        gateway(environment) as (url, pid),
        process(environment, "services.coordinator"),
        process(environment, "workers"),
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        deadline = time.monotonic() + 60
        while not client.get("/models/status").json()["workers"]:
            if time.monotonic() > deadline:
                raise RuntimeError("no worker")
            time.sleep(0.05)
        yield client, pid


@contextmanager
def plain_app(environment: dict[str, str], app: str) -> Iterator[str]:
    """Another FastAPI application under the same uvicorn, one process; its address."""
    port = usable_port(0)
    command = ["uvicorn", app, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    with process(environment, *command, ready=f"http://127.0.0.1:{port}/openapi.json"):
        yield f"http://127.0.0.1:{port}"


def execute(environment: dict[str, str], statement: str) -> None:
    """One SQL statement, committed."""
    connection = psycopg2.connect(environment["DATABASE_URL"])
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False
