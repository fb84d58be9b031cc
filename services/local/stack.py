"""What runs on a laptop: the servers that the environment does not name, then the platform's own processes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import psycopg2
from psycopg2 import sql

from services.local.postgres import EmbeddedPostgres
from services.local.processes import usable_port
from services.local.redis import EmbeddedRedis
from services.local.sign_in import is_on, kept_secret, sign_in
from services.local.supervisor import Child, Supervisor
from shared.settings import Settings

DATABASE = "atelier"
READY_SECONDS = 120


class StackError(RuntimeError):
    """The stack cannot start; the text is for the person at the console."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that are tried first; a taken one is replaced by a free one."""

    gateway: int = 8000
    flower: int = 5555
    postgres: int = 5433
    redis: int = 6380


class LocalStack:
    """Everything under one folder; a second start finds the same data."""

    def __init__(self, home: Path, ports: Ports, say: Callable[[str], None]) -> None:
        self._home, self._ports, self._say = home.absolute(), ports, say
        self._postgres: EmbeddedPostgres | None = None
        self._redis: EmbeddedRedis | None = None
        self._lock: IO[str] | None = None
        self.supervisor: Supervisor | None = None
        self.url = self.flower_url = ""
        self.headers: dict[str, str] = {}  # what a request of ours carries

    def start(self) -> None:
        """Start all of it and return when jobs can be accepted. From the main thread only."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        environment = self._environment()
        self._migrate(environment)
        self.supervisor = Supervisor(self._children(environment), environment, self._home / "logs", self._say)
        self.supervisor.start()
        self._await_ready(environment)

    def check(self) -> None:
        """Start again what has ended, the servers first. From the main thread only."""
        assert self.supervisor is not None
        for name, server in (("Postgres", self._postgres), ("Redis", self._redis)):
            if server is not None and server.has_ended:
                self._say(f"{name} ended; starting it again (log: {self._home / 'logs' / name.lower()}.log)")
                port = server.port
                server.start()
                if server.port != port:  # the others know only that one
                    raise StackError(f"{name} ended, and its port {port} is taken by now; start again")
        self.supervisor.check()

    def stop(self) -> None:
        """Drain the worker, stop everything, the servers last."""
        if self.supervisor is not None:
            self.supervisor.stop()
        for server in (self._redis, self._postgres):
            if server is not None:
                server.stop()
        if self._lock is not None:
            self._lock.close()

    def server_pids(self) -> dict[str, int]:
        """The embedded servers' pids by name."""
        servers = {"postgres": self._postgres, "redis": self._redis}
        return {name: server.pid for name, server in servers.items() if server is not None and server.pid}

    def _take_lock(self) -> None:
        self._lock = (self._home / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"Atelier is already running on {self._home}; stop it first (Ctrl-C there).") from None

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if "DATABASE_URL" not in environment:
            self._postgres = EmbeddedPostgres(self._home / "postgres", port=self._ports.postgres)
            environment["DATABASE_URL"] = ensure_database(self._postgres.start(), DATABASE)
        if "REDIS_URL" not in environment:
            self._redis = EmbeddedRedis(self._home / "redis", port=self._ports.redis)
            environment["REDIS_URL"] = self._redis.start()
        environment.setdefault("STORAGE_URL", (self._home / "storage").as_uri())
        port, flower = self._port("the API", self._ports.gateway), self._port("Flower", self._ports.flower)
        self.url, self.flower_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{flower}"
        environment |= {"ATELIER_PORT": str(port), "ATELIER_FLOWER_URL": self.flower_url}
        environment["ATELIER_FLOWER_PORT"] = str(flower)
        if is_on(environment):
            if not environment.get("ATELIER_ADMIN_PASSWORD"):
                raise StackError("ENABLE_AUTH=true needs ATELIER_ADMIN_PASSWORD here: the first job is the admin's.")
            if "ATELIER_SECRET_KEY" not in environment:
                environment["ATELIER_SECRET_KEY"] = kept_secret(self._home / "secret_key")
            if "ATELIER_FLOWER_AUTH" not in environment:
                path = self._home / "flower.password"
                environment["ATELIER_FLOWER_AUTH"] = f"operator:{kept_secret(path)}"
                self._say(f"Flower asks for a password: operator, and what {path} holds")
        return environment

    def _port(self, what: str, wanted: int) -> int:
        port = usable_port(wanted)
        if port != wanted:
            self._say(f"port {wanted} is taken; {what} is on {port}")
        return port

    def _migrate(self, environment: dict[str, str]) -> None:
        done = subprocess.run([sys.executable, "-m", "migrations"], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise StackError(f"the migrations failed:\n{done.stderr[-2000:]}")

    def _children(self, environment: dict[str, str]) -> list[Child]:
        """In the order in which they stop: nothing new comes in before the worker drains."""
        python = [sys.executable, "-m"]
        grace = float(environment.get("ATELIER_DRAIN_SECONDS", "60")) + 15
        return [
            Child("gateway", [*python, "services.gateway"]),
            Child("coordinator", [*python, "services.coordinator"]),
            *(Child(name, [*python, "workers"], grace, own) for name, own in workers(environment).items()),
            Child("flower", [*python, "services.flower"]),
        ]

    def _await_ready(self, environment: dict[str, str]) -> None:
        assert self.supervisor is not None
        deadline = time.monotonic() + READY_SECONDS
        while not (_answers(f"{self.url}/ready") and self._has_models(environment)):
            if time.monotonic() > deadline:
                raise StackError(f"the platform is not ready after {READY_SECONDS} s; see {self._home / 'logs'}")
            self.check()
            time.sleep(0.1)

    def _has_models(self, environment: dict[str, str]) -> bool:
        """Whether a worker lives and has told what it can serve."""
        if is_on(environment) and not self.headers:
            name = environment.get("ATELIER_ADMIN_USERNAME", Settings.model_fields["admin_username"].default)
            try:
                self.headers = sign_in(self.url, name, environment["ATELIER_ADMIN_PASSWORD"])
            except httpx.HTTPStatusError as error:
                raise StackError(f"{name} cannot sign in with ATELIER_ADMIN_PASSWORD: {error.response.text}") from None
        status = httpx.get(f"{self.url}/models/status", headers=self.headers, timeout=5).json()
        return bool(status["workers"] and status["models"])


def workers(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The workers by name, with what each has in its environment: one for downloads, so that no picture waits for them.

    It needs no device, and so loads no torch. ATELIER_FAMILIES is heeded: who serves no models, downloads none.
    """
    asked = [name.strip() for name in environment.get("ATELIER_FAMILIES", "").split(",") if name.strip()]
    chosen = [name for name in asked if not name.startswith("-")]
    found = {}
    if chosen != ["models"]:
        others = [name for name in asked if name not in ("models", "-models")]
        found["worker"] = {"ATELIER_FAMILIES": ",".join([*others, "-models"])}
    if "-models" not in asked and (not chosen or "models" in chosen):
        found["downloads"] = {"ATELIER_FAMILIES": "models", "DEVICE": "cpu"}
    return found


def ensure_database(server_url: str, name: str) -> str:
    """Create the database unless it is there; its address."""
    connection = psycopg2.connect(server_url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    finally:
        connection.close()
    return server_url.rsplit("/", 1)[0] + f"/{name}"


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
