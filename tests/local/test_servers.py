"""The embedded servers keep their data through SIGKILL, share the machine politely, and die with their launcher."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg2
import pytest
from redis import Redis

from services.local.postgres import EmbeddedPostgres
from services.local.processes import usable_port
from services.local.redis import EmbeddedRedis
from services.local.stack import LocalStack, Ports, StackError, workers
from services.local.supervisor import Child, Supervisor
from tests.platform import wait_until


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_postgres_keeps_what_was_committed_through_sigkill(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", port=0)
    url = server.start()
    try:
        execute(url, "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
        assert execute(url, "SHOW data_checksums") == [("on",)]
        assert server.pid
        os.kill(server.pid, signal.SIGKILL)
        url = server.start()  # at once, while children of the killed one may still be ending
        assert execute(url, "SELECT count(*) FROM t") == [(1000,)]
    finally:
        server.stop()


def test_redis_keeps_its_keys_through_sigkill(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "data", port=0)
    try:
        with Redis.from_url(server.start()) as client:
            client.set("k", "v")
        assert server.pid
        os.kill(server.pid, signal.SIGKILL)
        with Redis.from_url(server.start()) as client:
            assert client.get("k") == b"v"
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    finally:
        server.stop()


def test_passwords_are_for_their_owner_only(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "data", port=0)
    try:
        server.start()
        for name in ("redis.password", "redis.conf"):
            assert (tmp_path / name).stat().st_mode & 0o077 == 0
        assert server.pid
        assert "requirepass" not in " ".join(psutil.Process(server.pid).cmdline())
    finally:
        server.stop()


def test_a_taken_port_is_replaced() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert usable_port(port) not in (port, 0)


def test_a_second_start_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    first, second = (LocalStack(tmp_path, Ports(), lambda _: None) for _ in range(2))
    first._take_lock()
    with pytest.raises(StackError, match="already running"):
        second.start()
    second.stop()
    first.stop()


def test_servers_that_are_killed_come_again_at_the_same_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):  # which would mean that they are not ours to start
        monkeypatch.delenv(name)
    said: list[str] = []
    stack = LocalStack(tmp_path, Ports(postgres=0, redis=0), said.append)
    try:
        environment = stack._environment()
        stack.supervisor = Supervisor([], environment, tmp_path / "logs", said.append)
        with Redis.from_url(environment["REDIS_URL"]) as client:
            client.set("k", "v")
        for pid in stack.server_pids().values():
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: psutil.Process(p).status() == psutil.STATUS_ZOMBIE)
        stack.check()
        assert execute(environment["DATABASE_URL"], "SELECT 1") == [(1,)]
        with Redis.from_url(environment["REDIS_URL"]) as client:
            assert client.get("k") == b"v"
        assert [line.split(" ended")[0] for line in said[-2:]] == ["Postgres", "Redis"]
    finally:
        stack.stop()


LAUNCHER = """
import sys, time
from pathlib import Path
from services.local.postgres import EmbeddedPostgres
from services.local.redis import EmbeddedRedis
home = Path(sys.argv[1])
postgres, redis = EmbeddedPostgres(home / "pg", port=0, fsync=False), EmbeddedRedis(home / "redis", port=0)
postgres.start(), redis.start()
print(postgres.pid, redis.pid, flush=True)
time.sleep(600)
"""


def test_servers_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout
        servers = [psutil.Process(int(pid)) for pid in launcher.stdout.readline().split()]
        launcher.kill()
    gone, alive = psutil.wait_procs(servers, timeout=15)
    assert len(gone) == 2
    assert alive == []


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        (None, {"worker": "-models", "downloads": "models"}),
        ("image, models", {"worker": "image,-models", "downloads": "models"}),
        ("image", {"worker": "image,-models"}),
        ("-avatar", {"worker": "-avatar,-models", "downloads": "models"}),
        ("-models", {"worker": "-models"}),
        ("models", {"downloads": "models"}),
    ],
)
def test_no_picture_waits_for_a_download(asked: str | None, served: dict[str, str]) -> None:
    found = workers({} if asked is None else {"ATELIER_FAMILIES": asked})
    assert {name: own["ATELIER_FAMILIES"] for name, own in found.items()} == served


def test_the_supervisor_restarts_what_crashes_and_stops_in_order(tmp_path: Path) -> None:
    said: list[str] = []
    program = f"import time, pathlib; pathlib.Path(r'{tmp_path}/starts').open('a').write('x'); time.sleep(600)"
    child = Child("toy", [sys.executable, "-c", program], grace=5)
    supervisor = Supervisor([child], os.environ, tmp_path / "logs", said.append)
    supervisor.start()
    try:
        starts = tmp_path / "starts"
        wait_until(lambda: starts.exists() and len(starts.read_text()) == 1)
        assert child.process
        child.process.kill()
        child.process.wait()
        wait_until(lambda: supervisor.check() or len(starts.read_text()) == 2)
        assert "toy ended with code -9" in said[0]
        running = psutil.Process(child.process.pid)
    finally:
        supervisor.stop()
    assert not running.is_running()
