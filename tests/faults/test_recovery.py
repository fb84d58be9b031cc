"""How long it takes until what was hit goes on, with the leases, heartbeats and pauses that a server has."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from shared.settings import Settings
from tests.faults import figures, log
from tests.faults.conftest import REPORT
from tests.faults.figures import Budget
from tests.faults.history import History
from tests.faults.load import submit
from tests.faults.proxy import Network
from tests.faults.rig import Member, Rig
from tests.faults.servers import Postgres, Receiver, Redis
from tests.platform import wait_until

pytestmark = pytest.mark.whole
HURRIED = ("lease", "heartbeat", "reap", "backoff", "unclaimed")  # seconds that the other experiments shorten
JOBS = 20
AT_ONCE = 5.0  # seconds in which a new child starts, on a busy machine too


@pytest.fixture(scope="module")
def whole_rig(
    tmp_path_factory: pytest.TempPathFactory, network: Network, postgres: Postgres, redis: Redis, receiver: Receiver
) -> Iterator[Rig]:
    """In no hurry; in the place of the rig that is."""
    unhurried = {
        f"ATELIER_{name.upper()}_SECONDS": str(Settings.model_fields[f"{name}_seconds"].default) for name in HURRIED
    }
    folder, database = tmp_path_factory.mktemp("rig-in-no-hurry"), postgres.database("faults_of_recovery")
    rig = Rig(folder, network, database, redis.database(3), receiver, settings=unhurried)
    try:
        rig.start()
        rig.register_receiver()
        yield rig
    finally:
        rig.close()


def child(rig: Rig) -> None:
    rig["worker-1"].child().kill()


def gateway(rig: Rig) -> None:
    rig["gateway-1"].signal(signal.SIGKILL)


def redis_server(rig: Rig) -> None:
    rig.redis.kill()
    rig.redis.start()


KILLED: dict[str, Callable[[Rig], None]] = {"a worker's child": child, "a gateway": gateway, "Redis": redis_server}


@pytest.mark.parametrize("what", KILLED)
def test_killed_during_twenty_jobs(what: str, rig: Rig, history: History) -> None:
    """kill -9 during twenty jobs, with the settings of a server"""
    history.excused = {"lost"}
    submit(history, JOBS // 2)
    wait_until(lambda: "running" in history.states().values(), 180, "a job that runs")
    rig.broke()
    KILLED[what](rig)
    rig.supervise()
    submit(history, JOBS - JOBS // 2)
    history.ended()
    done = list(history.states().values()).count("completed")
    figures.note(REPORT, Budget(f"kill -9 of {what} during {JOBS} jobs", done, "done", at_least=JOBS))
    assert done == JOBS
    history.verify()


def test_a_child_dies(rig: Rig, history: History) -> None:
    """kill -9 of a worker's child, with the settings of a server: its parent sees it"""
    killed, claimed = _killed_at_work(rig, history, lambda worker: worker.child().kill())
    figures.note(REPORT, Budget("a worker's child is killed, its job runs again", claimed - killed.at, "s", AT_ONCE))
    history.verify()


def test_a_worker_dies(rig: Rig, history: History) -> None:
    """kill -9 of a whole worker, with the settings of a server: its lease runs out"""
    killed, claimed = _killed_at_work(rig, history, lambda worker: worker.signal(signal.SIGKILL, group=True))
    promise = f"a whole worker is killed, its job runs again after the end of its lease ({_lease(rig):.0f} s)"
    figures.note(REPORT, Budget(promise, claimed - killed.lease_end, "s", at_most=12))
    history.verify()


class Killed(NamedTuple):
    """When whoever held a job was killed, and when its lease ends (seconds since the epoch)."""

    at: float
    lease_end: float


def _killed_at_work(rig: Rig, history: History, kill: Callable[[Member], None]) -> tuple[Killed, float]:
    """Kill who runs a job; that moment, and the one at which somebody has claimed the job again."""
    gate = rig.folder / f"gate-{id(history)}"
    (job,) = submit(history, 1, until=str(gate))
    (holder,) = wait_until(lambda: _columns(rig, "lease_owner", job), 180, "somebody who runs it")
    worker = next(member for member in rig.members("worker") if f"-{member.pid}/" in holder)
    kill(worker)
    rig.broke()
    (lease_end,) = _columns(rig, "extract(epoch FROM lease_expires_at)::float8", job) or (0.0,)
    wait_until(lambda: _columns(rig, "attempt", job, attempt=2), 180, "the next attempt")
    claims = [move.at.timestamp() for move in log.moves(rig.postgres, [job])[job] if move.attempt == 2]
    gate.touch()
    history.ended()
    return Killed(rig.faults[-1], lease_end), claims[0]


def _columns(rig: Rig, what: str, job: str, attempt: int = 1) -> tuple[Any, ...] | None:
    """Of a job that runs, at this attempt; None while it does not."""
    statement = f"SELECT {what} FROM jobs WHERE id = %s AND state = 'running' AND attempt = %s"
    found = rig.postgres.rows(statement, job, attempt)
    return found[0] if found else None


def _lease(rig: Rig) -> float:
    return float(rig.settings["ATELIER_LEASE_SECONDS"])
