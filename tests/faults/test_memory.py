"""A machine that runs out of memory: the kernel kills whoever takes too much in a control group."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.history import History
from tests.faults.load import submit
from tests.faults.rig import Member, Rig
from tests.platform import wait_until

Size = Callable[[int, int], int]
LIMIT = 400_000_000  # bytes; a worker with its child needs half of it
TOO_MUCH = 1_000_000_000
GROUPS = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A control group of the kernel's, of either version; what is put into it gets no more than LIMIT."""

    def __init__(self, name: str) -> None:
        first = (GROUPS / "memory").is_dir()
        self._folder = (GROUPS / "memory" if first else GROUPS) / name
        self._folder.mkdir()
        limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if first else ("memory.max",)
        for limit in limits:
            with suppress(FileNotFoundError):  # a kernel that does not count swap
                (self._folder / limit).write_text(str(LIMIT))
        if not first:
            with suppress(FileNotFoundError):
                (self._folder / "memory.swap.max").write_text("0")
        self._events = self._folder / ("memory.oom_control" if first else "memory.events")

    def put(self, member: Member) -> None:
        """This worker with its child, and whatever they start."""
        for pid in (member.child().pid, member.pid):
            (self._folder / "cgroup.procs").write_text(str(pid))

    @property
    def kills(self) -> int:
        """How many processes the kernel ended in it."""
        counts = dict(line.split() for line in self._events.read_text().splitlines())
        return int(counts["oom_kill"])

    def remove(self) -> None:
        """Those that were in it have been killed; the last may still be on its way out."""
        wait_until(self._is_removed, 30, f"the end of all in {self._folder}")

    def _is_removed(self) -> bool:
        with suppress(OSError):  # busy
            self._folder.rmdir()
        return not self._folder.exists()


@pytest.fixture
def groups(rig: Rig) -> Iterator[list[MemoryGroup]]:
    """One for each worker."""
    made: list[MemoryGroup] = []
    try:
        for worker in rig.members("worker"):
            made.append(MemoryGroup(f"atelier-{os.getpid()}-{worker.name}"))
    except OSError as error:
        for group in made:
            group.remove()
        pytest.skip(f"no control group can be made here: {error}")
    yield made
    for worker in rig.members("worker"):
        worker.kill()
    for group in made:
        group.remove()


@pytest.mark.whole
def test_the_kernels_oom_kill(rig: Rig, groups: list[MemoryGroup], history: History, size: Size) -> None:
    """A job that takes more memory than its worker may have: the kernel kills it, among good jobs"""
    rig.start("worker-1", "worker-2", "coordinator-1", "coordinator-2", ATELIER_MAX_CRASHES="2")
    workers = rig.members("worker")
    for group, worker in zip(groups, workers, strict=True):
        group.put(worker)
    pids = [worker.pid for worker in workers]
    good = submit(history, size(6, 40))
    rig.broke()
    [greedy] = submit(history, 1, allocate=TOO_MUCH)
    good += submit(history, size(6, 40))
    history.ended()
    assert sum(group.kills for group in groups) == 2
    assert [worker.pid for worker in workers] == pids
    told = history.client().status(greedy)
    assert (told["status"], told["error"]["code"], told["attempt"]) == ("failed", "worker_lost", 2)
    assert {history.states()[job] for job in good} == {"completed"}
    history.verify()
