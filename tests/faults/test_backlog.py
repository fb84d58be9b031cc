"""A long queue, and people who change their minds while it drains."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.accounts import register
from tests.faults.client import Client
from tests.faults.history import History, say
from tests.faults.load_figures import Stopwatch, told_of
from tests.faults.proxy import Network
from tests.faults.rig import ACCOUNTS, Rig
from tests.faults.servers import Postgres, Receiver, Redis
from tests.platform import wait_until

OWNERS = ("ada", "ben", "cleo", "dora", "emil")
SUBMITTERS = 32
CANCELS = 20  # a second
# Doorbells that may wait in Redis, and jobs that workers hold already: by so many turns an owner may be ahead.
WINDOW = 20 + 2 * 2 + 2
LIVE = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"
CLAIMS = """
SELECT j.owner, j.turn FROM moves m JOIN jobs j ON j.id = m.job
WHERE m.verb = 'UPDATE' AND m.before = 'queued' AND m.state = 'running' ORDER BY m.number
"""

Size = Callable[[int, int], int]


@pytest.fixture(scope="module")
def whole_rig(
    tmp_path_factory: pytest.TempPathFactory, network: Network, postgres: Postgres, redis: Redis, receiver: Receiver
) -> Iterator[Rig]:
    """With accounts; in the place of the rig without."""
    folder, database = tmp_path_factory.mktemp("rig-with-a-backlog"), postgres.database("faults_backlog")
    with Rig(folder, network, database, redis.database(4), receiver, settings=ACCOUNTS).running() as rig:
        yield rig


def test_a_backlog(rig: Rig, history: History, size: Size) -> None:
    """A backlog of five owners, who came one after the other, and 20 cancels a second while it drains"""
    count = size(60, 2000)
    with httpx.Client(base_url=rig.url("gateway-1"), timeout=30) as http:
        people = {name: register(http, name).headers for name in OWNERS}
    clients = [history.client(name, headers) for name, headers in people.items()]
    rig.register_receiver(people[OWNERS[0]])  # one of them is told of each end
    for worker in rig.members("worker"):
        worker.kill()
    clock = Stopwatch()
    with ThreadPoolExecutor(SUBMITTERS) as pool:
        for client in clients:
            list(pool.map(lambda number, client=client: client.submit(say=say(number)), range(count)))
    print(f"{5 * count} jobs accepted, {5 * count / clock.seconds:.0f} a second")
    began = len(history.record.exchanges)
    rig.broke()
    with People(history, {client.tenant: client for client in clients}) as asked:
        rig.start("worker-1", "worker-2")
        clock = Stopwatch()
        wait_until(lambda: not _live(rig), 600, "the end of the backlog")
        seconds = clock.seconds
    print(f"{asked.cancels / asked.seconds:.1f} cancels a second")
    states = list(history.states().values())
    done, cancelled = states.count("completed"), states.count("cancelled")
    print(f"{done} done and {cancelled} cancelled in {seconds:.1f} s: {done / seconds:.0f} a second")
    meanwhile = history.record.exchanges[began:]
    told_of("status meanwhile", (told for told in meanwhile if told.path.startswith("/status/")))
    told_of("cancel meanwhile", (told for told in meanwhile if told.path.endswith("/cancel")))
    assert done + cancelled == 5 * count
    assert cancelled
    _turns_were_fair(rig)
    history.verify()


def _live(rig: Rig) -> int:
    """Asked seldom, because the question costs what the workers need."""
    threading.Event().wait(0.2)
    rig.supervise()
    return int(rig.postgres.rows(LIVE)[0][0])


class People:
    """During its block somebody cancels and somebody looks, at a steady pace."""

    def __init__(self, history: History, clients: dict[str, Client]) -> None:
        self._jobs, self._clients = list(history.record.jobs.values()), clients
        random.Random(len(self._jobs)).shuffle(self._jobs)
        self._ended, self._lock, self._clock = threading.Event(), threading.Lock(), Stopwatch()
        self.cancels, self.seconds = 0, 0.0
        self._problems: list[BaseException] = []
        # An answer may take longer than the pause between two cancels: three take turns.
        work = [(self._cancel, turn, 3) for turn in range(3)] + [(self._look, 0, 1)]
        self._threads = [threading.Thread(target=self._work, args=args) for args in work]

    def __enter__(self) -> People:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self._problems:
            raise self._problems[0]

    def _work(self, ask: Callable[[Client, str], object], first: int, step: int) -> None:
        try:
            for number in range(first, len(self._jobs), step):
                job = self._jobs[number]
                if self._ended.wait(max(0.0, number / CANCELS - self._clock.seconds)):
                    return
                ask(self._clients[job.tenant], job.id)
        except BaseException as problem:  # told to whoever waits
            self._problems.append(problem)

    def _cancel(self, client: Client, job: str) -> None:
        client.cancel(job)
        with self._lock:
            self.cancels, self.seconds = self.cancels + 1, self._clock.seconds

    def _look(self, client: Client, job: str) -> None:
        client.status(job)


def _turns_were_fair(rig: Rig) -> None:
    """Nobody was served more turns before others than a window holds, however early they came."""
    served = [turn for _, turn in rig.postgres.rows(CLAIMS)]
    latest = 0
    for place, turn in enumerate(served):
        latest = max(latest, turn)
        assert latest - turn <= WINDOW, f"claim {place} of {len(served)} is turn {turn}, after turn {latest}"
