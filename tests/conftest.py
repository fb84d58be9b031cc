"""Real servers for all tests: one Postgres and one Redis a session, a fresh database and storage folder a module."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import redis
from psycopg2 import sql

from services.local.postgres import EmbeddedPostgres
from services.local.redis import EmbeddedRedis
from services.local.stack import ensure_database

ROOT = Path(__file__).parent.parent
TEMPLATE = "atelier_template"
QUICK = {
    "ATELIER_LEASE_SECONDS": "2",
    "ATELIER_HEARTBEAT_SECONDS": "0.5",
    "ATELIER_REAP_SECONDS": "0.5",
    "ATELIER_BACKOFF_SECONDS": "0.1",
    "ATELIER_UNCLAIMED_SECONDS": "1",
    "ATELIER_DRAIN_SECONDS": "3",
    "ATELIER_ALLOW_DATA_LOSS": "true",
    "ATELIER_SUBMIT_TURN_SECONDS": "10",  # a disk that is slow for a second is no fault of the tests'
    "ATELIER_BREAKER_JOBS": "0",  # toys crash for many reasons, and others play with them afterwards
    "ATELIER_QUEUE_SIZE": "0",
    "ATELIER_MAX_LIVE_JOBS": "0",
    "ATELIER_EXTRA_FAMILIES": "tests.toys.family",
    "ATELIER_HUB_ENDPOINT": "http://127.0.0.1:9",  # nobody is there, and nobody may go there
    "ATELIER_IMPORT_DIR": "/nonexistent/imports",
    "LOG_LEVEL": "WARNING",
}
# Modules that read the settings at import need some; tests never connect with these.
for name, value in {"DATABASE_URL": "postgresql://nowhere", "REDIS_URL": "redis://nowhere"}.items():
    os.environ[name] = value
os.environ["STORAGE_URL"] = "file:///nonexistent/atelier"
os.environ["ATELIER_EXTRA_FAMILIES"] = "tests.toys.family"

HOSTILE = {
    "J": "JSON documents",
    "N": "numbers, for every numeric field",
    "H": "headers, waits, malformed HTTP",
    "P": "paths, ids, names, queries, methods",
    "R": "more than anybody needs",
    "F": "forms and files",
    "U": "uploads",
    "I": "pictures",
    "A": "sounds",
    "S": "addresses that lead elsewhere",
    "T": "tokens, keys, passwords, tickets",
    "W": "webhooks",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if marker := item.get_closest_marker("hostile"):
            item.user_properties.append(("hostile", marker.args[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With `-m hostile`, the groups and how many tests of each passed."""
    if config.option.markexpr != "hostile":
        return
    terminalreporter.section("bad input by group")
    for group, title in HOSTILE.items():
        ended = {outcome: terminalreporter.getreports(outcome) for outcome in ("passed", "failed")}
        passed, failed = (sum(("hostile", group) in r.user_properties for r in of) for of in ended.values())
        terminalreporter.line(f"{group}  {title:40} {passed:5} passed {failed:5} failed")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without fsync; the database TEMPLATE has the newest schema."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "data", port=0, fsync=False, max_connections=200)
    url = server.start()
    template = ensure_database(url, TEMPLATE)
    subprocess.run(
        [sys.executable, "-m", "migrations"], check=True, cwd=ROOT, env=os.environ | {"DATABASE_URL": template}
    )
    yield url
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's Redis."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis") / "data", port=0)
    yield server.start()
    server.stop()


@pytest.fixture(scope="module")
def redis_url(redis_server: str) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="module")
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh database with the newest schema."""
    name = f"test_{uuid.uuid4().hex}"
    _execute(
        postgres_url, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
    )
    yield postgres_url.rsplit("/", 1)[0] + f"/{name}"
    _execute(postgres_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def storage_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty storage folder."""
    return tmp_path_factory.mktemp("storage").as_uri()


@pytest.fixture(scope="module")
def environment(
    database_url: str, redis_url: str, storage_url: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of a platform with short times, the toy family and no models but those of the house."""
    servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "STORAGE_URL": storage_url}
    return {**QUICK, **servers, "ATELIER_MODELS_DIR": str(tmp_path_factory.mktemp("models"))}


def _execute(url: str, statement: sql.Composable) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
