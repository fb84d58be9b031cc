"""The platform's real processes for tests, started and killed one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from services.local.processes import usable_port

ROOT = Path(__file__).parent.parent
TERMINAL = {"completed", "failed", "cancelled", "expired"}
OTHERS = {"flower": "services.flower"}  # started when they are named
COMMANDS = {"gateway": "services.gateway", "coordinator": "services.coordinator", "worker": "workers"}


def wait_until(condition: Callable[[], Any], seconds: float = 30, what: str = "") -> Any:
    """The condition's first true value; polls, because what is awaited happens in another process."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what or condition}")


class Platform:
    """Processes by name; `logs` keeps what they print."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self.port = usable_port(0)
        self.environment = {**os.environ, **environment, "ATELIER_PORT": str(self.port)}
        self.logs = logs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def start(self, *names: str) -> Platform:
        """Start these (all of them if none is named) and wait until they serve."""
        for name in names or COMMANDS:
            with (self.logs / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", (COMMANDS | OTHERS)[name]],
                    env=self.environment,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        if "gateway" in (names or COMMANDS):
            wait_until(self._ready, 60, "gateway ready")
        if "worker" in (names or COMMANDS):
            wait_until(self._has_worker, 60, "worker registered")
        return self

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end."""
        self.processes[name].kill()
        self.processes[name].wait(10)

    def terminate(self, name: str) -> int:
        """SIGTERM, and wait; the exit code."""
        self.processes[name].terminate()
        return self.processes[name].wait(30)

    def child(self) -> psutil.Process:
        """The worker's child that runs jobs."""
        return wait_until(self._child, 30, "worker's child")

    def close(self) -> None:
        self.client.close()
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)

    def submit(self, path: str = "/toys/play", headers: dict[str, str] | None = None, **body: Any) -> str:
        """Post a job; its id."""
        answer = self.client.post(path, json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def status(self, job_id: str) -> dict[str, Any]:
        return self.client.get(f"/status/{job_id}").json()

    def finished(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        """The job's status once it is terminal."""
        return wait_until(lambda: (s := self.status(job_id))["status"] in TERMINAL and s, seconds, f"end of {job_id}")

    def running(self, job_id: str) -> dict[str, Any]:
        """The job's status once a step of it is done."""
        return wait_until(lambda: (s := self.status(job_id))["step"] and s, 60, f"steps of {job_id}")

    def _ready(self) -> bool:
        try:
            return self.client.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _has_worker(self) -> bool:
        status = self.client.get("/models/status").json()
        return any(w["name"].endswith(f"-{self.processes['worker'].pid}") for w in status["workers"])

    def _child(self) -> psutil.Process | None:
        children = psutil.Process(self.processes["worker"].pid).children()
        spawned = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
        return spawned[-1] if spawned else None


@contextmanager
def two_gateways(environment: dict[str, str], folder: Callable[[str], Path]) -> Iterator[list[Platform]]:
    """Two running gateways over the same servers; `folder` makes one for the logs of each."""
    platforms = [Platform(environment, folder("logs")) for _ in range(2)]
    try:
        yield [platform.start("gateway") for platform in platforms]
    finally:
        for platform in platforms:
            platform.close()


def kill_child(platform: Platform) -> None:
    """SIGKILL the process that runs the job, as the out-of-memory killer would."""
    os.kill(platform.child().pid, signal.SIGKILL)
