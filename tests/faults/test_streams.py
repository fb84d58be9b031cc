"""Many people who follow jobs, and many of them who vanish without a word."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable

import pytest

from tests.faults.history import History
from tests.faults.load import submit
from tests.faults.load_figures import MIB, held, watching
from tests.faults.rig import Rig
from tests.platform import TERMINAL, wait_until

TCP_REPAIR = 19  # Linux's; a socket in repair closes without telling the other side, as when its machine goes
JOBS = 20
POOLS = 4 + 16 + 16  # connections that a gateway may open to Postgres and Redis, and keep
FOLLOWS = "SELECT count(*) FROM jobs WHERE id = ANY(%s::uuid[]) AND state = 'running'"

Size = Callable[[int, int], int]


class Followers(threading.Thread):
    """One event stream for each of these addresses (port, job), all of them read until they end."""

    def __init__(self, addresses: list[tuple[int, str]]) -> None:
        super().__init__(name="followers")
        self._addresses = addresses
        self._loop = asyncio.new_event_loop()
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self.first: set[int] = set()  # who has heard anything
        self.last: dict[int, str] = {}  # the last state that each has heard
        self.gone: set[int] = set()
        self.problems: list[str] = []

    def run(self) -> None:
        self._loop.run_until_complete(self._follow_all())
        self._loop.close()

    def vanish(self, count: int) -> None:
        """The first so many are gone, and the gateways are not told."""
        done = threading.Event()

        def close() -> None:
            for number in range(count):
                self.gone.add(number)
                transport = self._writers[number].transport
                transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
                transport.abort()
            done.set()

        self._loop.call_soon_threadsafe(close)
        done.wait(30)

    async def _follow_all(self) -> None:
        await asyncio.gather(*(self._follow(n, *address) for n, address in enumerate(self._addresses)))

    async def _follow(self, number: int, port: int, job: str) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            self._writers[number] = writer
            writer.write(f"GET /status/{job}/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    self.last[number] = json.loads(line.removeprefix(b"data: "))["status"]
                    self.first.add(number)
            writer.close()
        except OSError as error:
            if number not in self.gone:
                self.problems.append(f"follower {number}: {error!r}")


def may_repair() -> bool:
    with socket.socket() as trial:
        try:
            trial.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        except OSError:
            return False
    return True


def test_a_crowd_of_followers(rig: Rig, history: History, size: Size) -> None:
    """A fifth of 1,000 event streams vanish without a word; all others see the end of their job"""
    if not may_repair():
        pytest.skip("this user may not let a connection vanish (CAP_NET_ADMIN)")
    gateways, count = rig.members("gateway"), size(100, 1000)
    gate = rig.folder / "gate-of-streams"
    gate.unlink(missing_ok=True)
    before = [held(gateway) for gateway in gateways]
    jobs = submit(history, JOBS, until=str(gate), steps=1)
    wait_until(lambda: rig.postgres.rows(FOLLOWS, jobs)[0][0] == 2, 180, "two running jobs")
    followers = Followers([(gateways[n % 2].port, jobs[n % JOBS]) for n in range(count)])
    with watching(gateways) as watched:
        followers.start()
        wait_until(lambda: len(followers.first) == count, 180, "everybody's first event")
        full = [held(gateway)[1] for gateway in gateways]
        rig.broke()
        followers.vanish(count // 5)
        left = [descriptors - count // 10 for descriptors in full]
        wait_until(
            lambda: all(held(g)[1] <= most + 5 for g, most in zip(gateways, left, strict=True)),
            180,
            "the gateways to notice who is gone",
        )
        gate.touch()
        followers.join()
    assert followers.problems == []
    ended = {number for number, state in followers.last.items() if state in TERMINAL}
    assert ended >= set(range(count)) - followers.gone, "somebody was not told the end"
    for gateway, (_, descriptors) in zip(gateways, before, strict=True):
        wait_until(lambda g=gateway, d=descriptors: held(g)[1] <= d + POOLS, 60, f"{gateway.name}'s descriptors")
    print("a stream takes", [f"{each.growth / MIB * 1024 / (count / 2):.0f} KiB" for each in watched])
    assert all(each.growth < 64 * MIB + count * 128 * 1024 for each in watched)
    history.ended()
    history.verify()
