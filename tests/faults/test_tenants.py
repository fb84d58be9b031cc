"""Several tenants at once, while everything breaks by chance: nobody is told anything of anybody else's."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.accounts import register
from tests.faults.history import History, say
from tests.faults.load import WORK, breaking
from tests.faults.proxy import Network
from tests.faults.rig import ACCOUNTS, Rig
from tests.faults.servers import Postgres, Receiver, Redis
from tests.platform import wait_until

pytestmark = pytest.mark.whole
TENANTS = ("ada", "ben", "cleo")
JOBS = 60  # each


@pytest.fixture(scope="module")
def whole_rig(
    tmp_path_factory: pytest.TempPathFactory, network: Network, postgres: Postgres, redis: Redis, receiver: Receiver
) -> Iterator[Rig]:
    """With accounts; in the place of the rig without."""
    folder, database = tmp_path_factory.mktemp("rig-with-accounts"), postgres.database("faults_of_tenants")
    with Rig(folder, network, database, redis.database(2), receiver, settings=ACCOUNTS).running() as rig:
        yield rig


def test_nobody_hears_of_others(rig: Rig, history: History) -> None:
    """kill -9 of anything, by chance, while three tenants submit, look, cancel and try each other's ids"""
    history.excused = {"lost", 503}
    with httpx.Client(base_url=rig.url("gateway-1"), timeout=30) as http:
        people = {name: register(http, name).headers for name in TENANTS}
    clients = {name: history.client(name, headers) for name, headers in people.items()}
    for headers in people.values():
        rig.register_receiver(headers)
    for number in range(JOBS):
        for name, client in clients.items():
            client.submit(**WORK, seed=number, say=f"canary-of-{name} {say(number)}")
    faults = [lambda name=m.name: _kill(rig, name) for m in rig.members()]
    breaking(history, faults, 12, pause=2, seed=time.time_ns())
    for asked in list(history.record.jobs.values())[::5]:
        for client in clients.values():
            client.ask("GET", f"/status/{asked.id}")
            client.ask("GET", f"/results/{asked.id}")
            if client.tenant != asked.tenant:
                client.ask("POST", f"/jobs/{asked.id}/cancel")
    for client in clients.values():
        client.ask("GET", "/jobs", params={"limit": 100})
    history.ended()
    history.verify()


def _kill(rig: Rig, name: str) -> None:
    os.kill(rig[name].pid, signal.SIGKILL)
    wait_until(lambda: rig[name].has_ended, 180, "its end")
