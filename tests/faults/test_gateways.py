"""Gateways that die around their commits, and clients that ask again with the same key."""

from __future__ import annotations

import base64
import signal
import threading
import time
from collections.abc import Callable

import pytest

from tests.faults.client import Client
from tests.faults.history import History, say
from tests.faults.load import submit, submitting
from tests.faults.rig import Rig
from tests.forms import PNG
from tests.platform import wait_until

Size = Callable[[int, int], int]


@pytest.mark.parametrize("place", ["G1", "G2"])
def test_killed_at(place: str, rig: Rig, history: History, size: Size) -> None:
    """A gateway is killed before or after the commit of a submit; its client asks again with the same key"""
    history.excused = {"lost"}
    rig.start("gateway-1", failpoints=f"{place}=kill@2")
    for _ in range(size(1, 5)):
        submit(history, 2)
        submit(history, 2, path="/toys/stamp", picture=base64.b64encode(PNG).decode())  # the first one's gateway dies
        wait_until(lambda: rig["gateway-1"].has_ended, 180, "the gateway's end")
        rig.faults += rig["gateway-1"].passed(place)
        rig["gateway-1"].again()
        wait_until(lambda: rig.serves(rig["gateway-1"]), 180, "the gateway to serve")
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


def test_an_unexpected_error_before_the_commit(rig: Rig, history: History) -> None:
    """An error that nobody expects before the commit of a submit: it is told, and nobody waits for ever"""
    history.excused = {500}
    rig.start("gateway-1", failpoints="G1=raise@2")
    submit(history, 4)
    rig.faults += rig.passages("G1")
    assert [told.status for told in history.record.exchanges].count(500) == 1
    history.ended()
    history.verify()


@pytest.mark.whole
def test_stopped_in_the_middle_of_a_transaction(rig: Rig, history: History) -> None:
    """SIGSTOP of a gateway that holds its owner's lock: Postgres ends its transaction, and others go on"""
    history.excused = {"lost"}
    rig.start("gateway-1", failpoints="G1=stop@1", ATELIER_MAX_LIVE_JOBS="1000")
    rig.start("gateway-2", ATELIER_MAX_LIVE_JOBS="1000")
    client, gateway = history.client(), rig["gateway-1"]
    stuck = threading.Thread(target=client.ask, args=("POST", "/toys/play"), kwargs={"gateway": 0, "json": {}})
    stuck.start()
    wait_until(lambda: gateway.is_stopped, 180, "a gateway before its commit")
    rig.broke()
    until = time.monotonic() + 180
    while (status := client.post_once(gateway=1, say=say(1))[0]) == 409 and time.monotonic() < until:
        time.sleep(1)
    assert status == 202
    gateway.kill()
    stuck.join()
    history.ended()
    history.verify()


@pytest.mark.whole
def test_one_key_posted_to_both_gateways_at_once(rig: Rig, history: History, size: Size) -> None:
    """Both gateways get the same request at the same moment, while one stands still before its commit"""
    rig.start("gateway-1", failpoints="G1=sleep:0.3")
    client = history.client()
    for number in range(size(3, 25)):
        answers: list[str] = []
        threads = [
            threading.Thread(target=_insist, args=(client, f"key-{id(history)}-{number}", answers)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 4
        assert len(set(answers)) == 1
    rig.faults += rig.passages("G1")
    assert len(rig.faults) >= size(3, 25)
    history.ended()
    history.verify()


def test_killed_among_submits_and_downloads(rig: Rig, history: History, size: Size) -> None:
    """kill -9 of a gateway while jobs are submitted and results are read"""
    history.excused = {"lost"}
    gateway, client = rig["gateway-1"], history.client()
    with submitting(history, size(10, 200)) as load:
        for _ in range(size(2, 10)):
            wait_until(lambda: "completed" in history.states().values(), 180, "a result")
            rig.broke()
            gateway.signal(signal.SIGKILL)
            wait_until(lambda: gateway.has_ended, 180, "its end")
            done = [job for job, state in history.states().items() if state == "completed"]
            client.result(done[-1])
            rig.supervise()
            wait_until(lambda: rig.serves(gateway) or not load.is_alive(), 180, "the gateway again")
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


def _insist(client: Client, key: str, answers: list[str]) -> None:
    answers.append(client.submit(key=key, say=key))
