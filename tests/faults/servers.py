"""What the platform stands on, as the product runs it: Postgres with fsync, Redis with its append-only file, S3."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import psutil
import psycopg2

from services.local.postgres import EmbeddedPostgres
from services.local.processes import usable_port
from services.local.redis import EmbeddedRedis
from services.local.stack import ensure_database
from tests.egress.servers import Server, serving
from tests.platform import ROOT, wait_until
from tests.storage.swift_server import BUCKET, KEY, REGION, USER, SwiftServer


class Postgres:
    """One server with fsync; it comes back at the same port with the same data."""

    def __init__(self, folder: Path, connections: int = 100) -> None:
        self.port = usable_port(0)
        self._server = EmbeddedPostgres(folder / "data", port=self.port, max_connections=connections)
        self.url = self._server.start()

    def database(self, name: str) -> Postgres:
        """The same server with a database of this name, which has the newest schema."""
        there = copy.copy(self)
        there.url = ensure_database(self.url, name)
        environment = os.environ | {"DATABASE_URL": there.url}
        subprocess.run([sys.executable, "-m", "migrations"], check=True, cwd=ROOT, env=environment)
        return there

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Of a connection of its own, as the tables' owner; every statement is a transaction."""
        connection = psycopg2.connect(self.url)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """A fast shutdown: clients are cut off."""
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL for all of it, as when the machine goes: nothing is written any more."""
        _kill_tree(self._server.pid)
        self._server.stop()


class Redis:
    """One server with its append-only file; it comes back at the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = usable_port(0)
        self._server = EmbeddedRedis(folder / "data", port=self.port)
        self.url = self._server.start()

    def database(self, number: int) -> Redis:
        """The same server's database of this number."""
        there = copy.copy(self)
        there.url = self.url.rsplit("/", 1)[0] + f"/{number}"
        return there

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        _kill_tree(self._server.pid)
        self._server.stop()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It holds all its connections and does nothing."""
        assert self._server.pid
        os.kill(self._server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._server.pid, signal.SIGCONT)


class S3:
    """An S3-protocol server with an empty bucket."""

    url_in_bucket = f"s3://{BUCKET}/faults"

    def __init__(self, folder: Path) -> None:
        self._server = SwiftServer(folder)
        try:
            self._server.start()
        except BaseException:
            self._server.stop()
            raise
        self.port = int(self._server.url.rsplit(":", 1)[1])
        self.environment = {
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "ATELIER_S3_REGION": REGION,
        }
        with self._client() as client:
            client.create_bucket(Bucket=BUCKET)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        keys = {"aws_access_key_id": USER, "aws_secret_access_key": KEY}
        with closing(boto3.client("s3", endpoint_url=self._server.url, region_name=REGION, **keys)) as client:
            yield client

    def unfinished_uploads(self) -> list[str]:
        """Keys of uploads in parts that nobody has completed or given up."""
        with self._client() as client:
            found = client.list_multipart_uploads(Bucket=BUCKET)
        return [upload["Key"] for upload in found.get("Uploads", [])]

    def stop(self) -> None:
        self._server.stop()


@dataclass
class Receiver:
    """A webhook receiver; `copies` counts what came, by the event's id, and `sent_at` is when the last was, it says."""

    server: Server
    copies: dict[str, int] = field(default_factory=dict)
    sent_at: int = 0
    status: int = 200
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/events"

    def hear(self, handler: BaseHTTPRequestHandler) -> None:
        event = handler.headers["webhook-id"]
        with self._lock:
            self.copies[event] = self.copies.get(event, 0) + 1
            self.sent_at = int(handler.headers["webhook-timestamp"])
        handler.send_response(self.status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver while the block runs."""
    with serving({}) as server:
        receiver = Receiver(server)
        server.behaviours["/events"] = receiver.hear
        yield receiver


def _kill_tree(pid: int | None) -> None:
    """SIGKILL this process, which is ours, and its children; return when they are gone."""
    assert pid
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        process.kill()
    wait_until(lambda: all(_ended(process) for process in family), 180, "the end of a server")


def _ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
