"""Starting and ending child processes so that none outlives its launcher, and Ctrl-C reaches the launcher alone."""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(
    command: Sequence[str | Path],
    log: Path,
    *,
    dies_with: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, its output appended to `log`.

    If this process dies, the kernel sends `dies_with` to the child. That is tied to the thread that forks, so call
    this from the main thread only.
    """
    launcher = os.getpid()

    def prepare() -> None:
        if sys.platform == "linux":
            _libc.prctl(PR_SET_PDEATHSIG, dies_with)
        if os.getppid() != launcher:  # it died before prctl
            os._exit(1)

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment) if environment is not None else None,
            start_new_session=True,
            preexec_fn=prepare,
        )


def stop(process: subprocess.Popen[bytes], number: signal.Signals, grace: float) -> int:
    """Send the signal and wait; SIGKILL after `grace` seconds. The exit code."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def usable_port(wanted: int) -> int:
    """`wanted` if nothing listens there, else a free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port")


def secret(path: Path) -> str:
    """The secret kept in this file, made (readable by its owner only) if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text()
