"""Keeps the platform's processes running: starts them in order, restarts what crashes, stops them in order."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.local.processes import spawn, stop

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STABLE_SECONDS = 30.0  # a process that ran this long starts again without a pause


@dataclass(slots=True)
class Child:
    """One supervised process; `grace` is how long it may take to stop (s), `own` is added to its environment."""

    name: str
    command: Sequence[str]
    grace: float = 15.0
    own: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    pause: float = field(default=FIRST_PAUSE)


class Supervisor:
    """Runs `children`; `say` tells the person at the console what happens."""

    def __init__(
        self, children: Sequence[Child], environment: Mapping[str, str], logs: Path, say: Callable[[str], None]
    ) -> None:
        self.children, self._environment, self._logs, self._say = list(children), environment, logs, say

    def start(self) -> None:
        """Start all of them, in order. From the main thread only (see `spawn`)."""
        for child in self.children:
            self._start(child)

    def check(self) -> None:
        """Start again what has ended, after a pause that doubles while it keeps crashing."""
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                self._plan_restart(child, now)
            if child.process is None and now >= child.start_again_at:
                self._start(child)

    def stop(self) -> None:
        """Stop them in the order in which they were started; only the process itself hears the signal."""
        for child in self.children:
            if child.process is not None:
                stop(child.process, signal.SIGTERM, child.grace)
                child.process = None

    def log_of(self, name: str) -> Path:
        """Where this child's output goes."""
        return self._logs / f"{name}.log"

    def _start(self, child: Child) -> None:
        environment = {**self._environment, **child.own}
        child.process = spawn(child.command, self.log_of(child.name), environment=environment)
        child.started_at = time.monotonic()

    def _plan_restart(self, child: Child, now: float) -> None:
        assert child.process is not None
        code, child.process = child.process.returncode, None
        child.pause = FIRST_PAUSE if now - child.started_at > STABLE_SECONDS else min(LONGEST_PAUSE, 2 * child.pause)
        child.start_again_at = now + child.pause
        self._say(f"{child.name} ended with code {code}; starting it again (log: {self.log_of(child.name)})")
