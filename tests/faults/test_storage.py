"""An object store that refuses, crawls, and loses connections in the middle of uploads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest

from shared.storage.s3 import S3Storage
from tests.faults.history import History
from tests.faults.load import Fault, named, seldom, submit, submitting
from tests.faults.proxy import Link, Network
from tests.faults.rig import Rig
from tests.faults.servers import S3, Postgres, Receiver, Redis
from tests.platform import wait_until
from tests.storage.swift_server import BUCKET, REGION, program

Size = Callable[[int, int], int]
REFUSAL = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
LARGE = 9_000_000  # bytes; more than one part of an upload

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def whole_rig(
    tmp_path_factory: pytest.TempPathFactory, network: Network, postgres: Postgres, redis: Redis, receiver: Receiver
) -> Iterator[Rig]:
    """On an S3-protocol server; in the place of the large rig."""
    if not program("swift-proxy-server"):
        pytest.skip("OpenStack Swift is not installed: pip install -e .[test]")
    s3 = S3(tmp_path_factory.mktemp("s3"))
    folder = tmp_path_factory.mktemp("rig-on-s3")
    rig = Rig(folder, network, postgres.database("faults_on_s3"), redis.database(1), receiver, s3)
    try:
        rig.start()
        rig.register_receiver()
        with pytest.MonkeyPatch.context() as patch:  # the judge looks into the store as well
            for name in (name for name in s3.environment if name.startswith("AWS_")):
                patch.setenv(name, s3.environment[name])
            yield rig
    finally:
        rig.close()
        s3.stop()


def failing(rig: Rig, seconds: float, fail: Callable[[Link], None]) -> None:
    """Both workers' ways to the store."""
    links = [rig.link(worker.name, "s3") for worker in rig.members("worker")]
    for link in links:
        fail(link)
    time.sleep(seconds)
    for link in links:
        link.open()


def refuses(rig: Rig, seconds: float) -> None:
    failing(rig, seconds, lambda link: link.answer_all(REFUSAL))


def is_slow(rig: Rig, seconds: float) -> None:
    failing(rig, seconds, lambda link: link.slow(latency=0.2, rate=200_000))


def is_away(rig: Rig, seconds: float) -> None:
    failing(rig, seconds, Link.refuse)


def loses_connections(rig: Rig, seconds: float) -> None:
    def fail(link: Link) -> None:
        link.cut_after(20_000)
        link.reset()

    failing(rig, seconds, fail)


FAULTS = [refuses, *seldom(is_slow, is_away, loses_connections)]


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_the_store(fault: Fault, rig: Rig, history: History, size: Size) -> None:
    """The object store fails the workers for a while"""
    with submitting(history, size(5, 40)):
        wait_until(lambda: "completed" in history.states().values(), 180, "a first result")
        rig.broke()
        fault(rig, size(2, 15))
        rig.healed()
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.client().result(history.jobs[-1])
    history.verify()


def test_downloads(rig: Rig, history: History) -> None:
    """The object store cuts a gateway's connections in the middle of a download, and then refuses"""
    [job] = submit(history, 1, size=LARGE)
    history.ended()
    path = f"{rig.url('gateway-1')}/results/{job}"
    link = rig.link("gateway-1", "s3")
    link.slow(rate=2_000_000)
    with httpx.stream("GET", path, timeout=30) as answer:
        chunks = answer.iter_raw()
        next(chunk for chunk in chunks if len(chunk) > 10_000)  # some of a file, not of what stands before it
        rig.broke()
        link.reset()
        with pytest.raises(httpx.RemoteProtocolError):
            list(chunks)
    link.answer_all(REFUSAL)
    refused = httpx.get(f"{path}/files/file_0.bin", timeout=30)
    assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
    link.open()
    rig.healed()
    history.client().result(job)
    history.verify()


def test_a_worker_is_killed_in_the_middle_of_an_upload_in_parts(rig: Rig, history: History) -> None:
    """kill -9 in the middle of an upload in parts: what came of it is found and taken away"""
    rig["worker-2"].kill()
    rig.start("worker-1", failpoints="W5=kill@2")
    submit(history, 1, files=2, size=LARGE)
    wait_until(lambda: rig.passages("W5"), 180, "the kill")
    rig.faults += rig.passages("W5")
    assert rig.s3 is not None
    assert rig.s3.unfinished_uploads()
    rig.start("worker-1")
    history.ended()
    history.client().result(history.jobs[0])
    history.verify()
    with closing(S3Storage(BUCKET, "faults", f"http://127.0.0.1:{rig.s3.port}", REGION)) as storage:
        storage.sweep(0)  # the janitor's, a day later
    assert not rig.s3.unfinished_uploads()
