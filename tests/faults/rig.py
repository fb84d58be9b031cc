"""The whole platform with every process doubled, each reached and reaching others through a link that can fail."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import httpx
import psutil

from services.local.processes import spawn, usable_port
from tests.accounts import AUTH
from tests.conftest import QUICK
from tests.faults import log
from tests.faults.proxy import Link, Network
from tests.faults.servers import S3, Postgres, Receiver, Redis
from tests.platform import COMMANDS, ROOT, wait_until

SETTINGS = QUICK | {
    "LOG_LEVEL": "INFO",
    "ATELIER_ALLOW_DATA_LOSS": "false",
    "ATELIER_BREAKER_JOBS": "5",
    "ATELIER_FAMILIES": "toy",
    "DEVICE": "cpu",
    "ATELIER_MAX_CRASHES": "6",
    "ATELIER_POISON_WORKERS": "6",  # who kills by chance meets one job at several workers
    "ATELIER_MAX_FAILURES": "6",
    "ATELIER_WEBHOOK_HTTP": "true",
    "ATELIER_WEBHOOK_SECONDS": "2",
    "ATELIER_WEBHOOK_SCHEDULE": ",".join(["0.2"] * 50),
    "ATELIER_EGRESS_NETWORKS": "127.0.0.0/8",
}
# Of a rig where people sign in, and nothing but what an experiment says limits them.
ACCOUNTS = AUTH | {"ATELIER_FREE_GPU_SECONDS": "0", "ATELIER_FREE_STORED_BYTES": "0"}
PASSED = re.compile(r"^failpoint (\w+) at ([\d.]+)$", re.MULTILINE)


class Exit(NamedTuple):
    """The end of a process that no experiment caused."""

    name: str
    code: int


class Trouble(NamedTuple):
    """A fault, and when it was mended; `healed` is infinite where nobody told (seconds since the epoch)."""

    broke: float
    healed: float

    @property
    def lasted(self) -> bool:
        return self.healed < math.inf


class Member:
    """One process of the platform with all its children: a process group of its own."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.name, self.kind = name, name.rsplit("-", 1)[0]
        self.port = usable_port(0)
        self.log = rig.folder / f"{name}.log"
        self._rig = rig
        self._process: subprocess.Popen[bytes] | None = None
        self._started_with: tuple[Path, dict[str, str]] | None = None
        self._began_at = 0  # bytes of the log that earlier runs wrote
        self._is_expected_to_end = False  # its present run: it was told to, or a test waits for it

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def launch(self, code: Path, settings: dict[str, str]) -> None:
        """Start from this copy of the code; it serves when the rig says so."""
        assert self._process is None
        self._started_with, self._is_expected_to_end = (code, settings), False
        self._began_at = self.log.stat().st_size if self.log.exists() else 0
        environment = {**os.environ, **self._rig.environment(self), **settings, "PYTHONPATH": str(code)}
        command = ["env", "--chdir", code, sys.executable, "-m", COMMANDS[self.kind]]
        self._process = spawn(command, self.log, dies_with=signal.SIGKILL, environment=environment)

    def is_as(self, code: Path, settings: dict[str, str]) -> bool:
        """Whether it runs, and was started so."""
        return self.is_launched and self.exit_code is None and self._started_with == (code, settings)

    @property
    def is_launched(self) -> bool:
        """Whether it was started and not sent away; it may have ended by itself."""
        return self._process is not None

    @property
    def has_ended(self) -> bool:
        """By itself, or killed from outside; whoever asks and hears so is not surprised by this end."""
        self._is_expected_to_end |= self.is_gone
        return self.is_gone

    @property
    def is_gone(self) -> bool:
        """As `has_ended`, for who only looks after it."""
        return self.is_launched and self.exit_code is not None

    def surprise(self) -> Exit | None:
        """Its end, if nobody caused or awaited it."""
        code = self.exit_code if self.is_launched else None
        if code is None or self._is_expected_to_end or (code == -signal.SIGKILL and self._dies_at_a_failpoint):
            return None
        return Exit(self.name, code)

    @property
    def _dies_at_a_failpoint(self) -> bool:
        return self._started_with is not None and "=kill" in self._started_with[1].get("ATELIER_FAILPOINTS", "")

    def again(self) -> None:
        """Start as the last time."""
        assert self._started_with is not None
        if self.is_launched:
            self.ended()
        self.launch(*self._started_with)

    def signal(self, number: int, *, group: bool = False) -> None:
        """To the process itself, or to it and all its children."""
        if self.exit_code is None and number not in (signal.SIGSTOP, signal.SIGCONT):
            self._is_expected_to_end = True
        if group:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL for all of it: the machine went away."""
        if self._process is None:
            return
        self._rig.note_exit(self)
        self.signal(signal.SIGKILL, group=True)
        self._process.wait(30)
        self._process = None

    def terminate(self, seconds: float = 60) -> int:
        """SIGTERM, and wait; the exit code."""
        self.signal(signal.SIGTERM)
        return self.ended(seconds)

    def ended(self, seconds: float = 60) -> int:
        """Wait for its own end, and end what it left behind; the exit code."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self._rig.note_exit(self)
        self.signal(signal.SIGKILL, group=True)
        self._process = None
        return code

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP for all of it, and SIGCONT at the end of the block."""
        self.signal(signal.SIGSTOP, group=True)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT, group=True)

    def child(self) -> psutil.Process:
        """A worker's child that runs jobs."""
        return wait_until(self._child, 180, f"a child of {self.name}")

    def _child(self) -> psutil.Process | None:
        for child in reversed(psutil.Process(self.pid).children()):
            with suppress(psutil.NoSuchProcess):  # it has died since
                if "spawn_main" in " ".join(child.cmdline()):
                    return child
        return None

    def said(self) -> str:
        """What its present run wrote."""
        with self.log.open("rb") as log:
            log.seek(self._began_at)
            return log.read().decode(errors="replace")

    def passed(self, place: str) -> list[float]:
        """When its present run came to this failpoint and it acted (seconds since the epoch)."""
        return [float(at) for found, at in PASSED.findall(self.said()) if found == place]

    def waits_at(self, place: str, seconds: float = 60) -> None:
        """Return when a failpoint that stops has stopped this worker's child there."""
        process = self.child()
        wait_until(
            lambda: self.passed(place) and process.status() == psutil.STATUS_STOPPED, seconds, f"{self.name} at {place}"
        )

    @property
    def is_stopped(self) -> bool:
        """Whether the process itself stands still."""
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED


class Rig:
    """Members by name (`gateway-1`, `worker-2`, …), and a link for each pair of a member and a server."""

    def __init__(
        self,
        folder: Path,
        network: Network,
        postgres: Postgres,
        redis: Redis,
        receiver: Receiver | None = None,
        s3: S3 | None = None,
        settings: dict[str, str] | None = None,
    ) -> None:
        log.install(postgres)
        self.folder, self.postgres, self.redis, self.receiver, self.s3 = folder, postgres, redis, receiver, s3
        self.storage_url = s3.url_in_bucket if s3 else (folder / "storage").as_uri()
        self.settings = SETTINGS | (settings or {})
        if receiver is not None:
            self.settings["ATELIER_EGRESS_PORTS"] = str(receiver.server.port)
        self._network = network
        self._links: dict[tuple[str, str], Link] = {}
        self._members = {f"{kind}-{n}": Member(self, f"{kind}-{n}") for kind in COMMANDS for n in (1, 2)}
        self.faults: list[float] = []  # when something was broken on purpose
        self.healings: list[float] = []  # when that was mended
        self.exits: list[Exit] = []  # that nobody caused

    def __getitem__(self, name: str) -> Member:
        return self._members[name]

    def members(self, kind: str = "") -> list[Member]:
        """All of them, or those of one kind."""
        return [member for member in self._members.values() if member.kind.startswith(kind)]

    def link(self, name: str, server: str) -> Link:
        """The way of this member to `postgres`, `redis` or `s3`."""
        if (name, server) not in self._links:
            servers: dict[str, Any] = {"postgres": self.postgres, "redis": self.redis, "s3": self.s3}
            self._links[name, server] = self._network.link(servers[server].port)
        return self._links[name, server]

    def links(self, server: str) -> list[Link]:
        """Everybody's way to this server."""
        return [self.link(name, server) for name in self._members]

    def environment(self, member: Member) -> dict[str, str]:
        """What a member is told of the world."""
        told = self.settings | {
            "DATABASE_URL": _through(self.link(member.name, "postgres"), self.postgres.url),
            "REDIS_URL": _through(self.link(member.name, "redis"), self.redis.url),
            "STORAGE_URL": self.storage_url,
            "ATELIER_PORT": str(member.port),
        }
        if self.s3 is not None:
            told |= self.s3.environment
            told["ATELIER_S3_ENDPOINT_URL"] = f"http://127.0.0.1:{self.link(member.name, 's3').port}"
        return told

    def start(self, *names: str, failpoints: str = "", code: Path = ROOT, **settings: str) -> None:
        """Have these (all, if none is named) run so, and return when they serve; what runs otherwise is killed."""
        if failpoints:
            settings["ATELIER_FAILPOINTS"] = failpoints
        chosen = [self[name] for name in names] if names else self.members()
        fresh = [member for member in chosen if not member.is_as(code, settings)]
        for member in fresh:
            member.kill()
        for member in fresh:
            member.launch(code, settings)
        for member in chosen:
            wait_until(lambda member=member: self.serves(member), 180, f"{member.name} to serve")

    def supervise(self) -> None:
        """Start again what ended by itself, as it was, and do not wait for it."""
        for member in self.members():
            if member.is_gone:
                member.again()

    def note_exit(self, member: Member) -> None:
        """Keep its end for the judge, if nobody caused it."""
        if surprise := member.surprise():
            self.exits.append(surprise)

    def taken_exits(self) -> list[Exit]:
        """Those that nobody caused and nobody was told of yet."""
        self.supervise()
        told, self.exits = self.exits, []
        return told

    def serves(self, member: Member) -> bool:
        """Whether it does its work; AssertionError if it ended instead."""
        assert member.exit_code is None, f"{member.name} ended with {member.exit_code}, see {member.log}"
        if member.kind == "gateway":
            with suppress(httpx.TransportError):
                return httpx.get(f"{self.url(member.name)}/ready", timeout=10).status_code == 200
            return False
        if member.kind == "worker":
            known = "SELECT 1 FROM workers WHERE name LIKE %s AND state = 'ready'"
            return bool(self.postgres.rows(known, f"%-{member.pid}"))
        return "coordinator is up" in member.said()

    def mend(self) -> None:
        """What a test broke works again: links, stopped members, and those that ended by themselves."""
        for link in self._links.values():
            link.open()
        for member in self.members():
            if member.is_launched:
                member.signal(signal.SIGCONT, group=True)
        self.supervise()

    def heal(self) -> None:
        """Everything is as at the beginning, whatever settings a test gave to whom."""
        self.mend()
        self.start()
        for kept in (self.faults, self.healings, self.exits):
            kept.clear()

    @contextmanager
    def running(self) -> Iterator[Rig]:
        """Everything serves during the block, and is gone after it."""
        try:
            self.start()
            yield self
        finally:
            self.close()

    def close(self) -> None:
        for member in self.members():
            member.kill()

    def url(self, name: str) -> str:
        """A gateway's address."""
        return f"http://127.0.0.1:{self[name].port}"

    def register_receiver(self, headers: dict[str, str] | None = None) -> None:
        """Tell the receiver of the ends of all jobs of whoever this is."""
        assert self.receiver is not None
        url = f"{self.url('gateway-1')}/webhooks"
        httpx.post(url, json={"url": self.receiver.url}, headers=headers, timeout=30).raise_for_status()

    def broke(self) -> None:
        """Note this moment as the one of a fault."""
        self.faults.append(time.time())

    def healed(self, at: float | None = None) -> None:
        """Note this moment (or that one) as the one at which everything that was broken is mended."""
        self.healings.append(time.time() if at is None else at)

    def troubles(self) -> list[Trouble]:
        """What was broken, each with the first healing after it."""
        return [Trouble(at, min((h for h in self.healings if h >= at), default=math.inf)) for at in self.faults]

    def passages(self, place: str) -> list[float]:
        """When any member came to this failpoint."""
        return sorted(at for member in self.members() for at in member.passed(place))


def _through(link: Link, url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{parts.password}@127.0.0.1:{link.port}"))
