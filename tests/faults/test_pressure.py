"""More than the platform takes: too many requests, too slow ones, too large ones; and results that go while they are
read."""

from __future__ import annotations

import io
import random
import select
import socket
import threading
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import accumulate

import httpx
import pytest

from tests.accounts import register
from tests.faults.client import Asked, Client, Record
from tests.faults.history import History, say
from tests.faults.load_figures import MIB, told_of, watching
from tests.faults.proxy import Network
from tests.faults.rig import ACCOUNTS, Rig
from tests.faults.servers import Postgres, Receiver, Redis
from tests.platform import wait_until
from tests.toys.runner import content

Size = Callable[[int, int], int]
OWNERS = ("ann", "bob", "cid", "dan")
ROOM = 100 * MIB  # by which a gateway may grow
GIGABYTES = 5 * 10**9
RATE, LIVE, QUEUE = 5, 20, 60  # submits a second and live jobs of an owner, queued jobs of all


@pytest.fixture(scope="module")
def whole_rig(
    tmp_path_factory: pytest.TempPathFactory, network: Network, postgres: Postgres, redis: Redis, receiver: Receiver
) -> Iterator[Rig]:
    """With accounts; in the place of the rig without."""
    folder, database = tmp_path_factory.mktemp("rig-under-pressure"), postgres.database("faults_pressure")
    with Rig(folder, network, database, redis.database(5), receiver, settings=ACCOUNTS).running() as rig:
        yield rig


def owner(rig: Rig, history: History) -> tuple[Client, dict[str, str]]:
    """A new one, and the headers that its requests carry."""
    name = f"p{uuid.uuid4().hex[:12]}"
    with httpx.Client(base_url=rig.url("gateway-1"), timeout=30) as http:
        headers = register(http, name).headers
    rig.register_receiver(headers)
    return history.client(name, headers), headers


def head(request: str, headers: dict[str, str]) -> bytes:
    """Of an HTTP request, without its end."""
    lines = [f"{request} HTTP/1.1", "Host: a", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n"


# --- too many requests


def test_overload(rig: Rig, history: History, size: Size) -> None:
    """Twice what the rate, live jobs and queue allow: all else is refused with a time, what was accepted completes"""
    history.excused, history.live_jobs = {503}, LIVE
    with httpx.Client(base_url=rig.url("gateway-1"), timeout=30) as http:
        people = {name: register(http, name) for name in (*OWNERS, "free")}
    for person in people.values():
        rig.register_receiver(person.headers)
    tier = "UPDATE users SET tier = 'enterprise' WHERE username = ANY(%s) RETURNING 1"
    assert len(rig.postgres.rows(tier, list(OWNERS))) == len(OWNERS)
    limits = {
        "ATELIER_RATE_LIMITS": "true",
        "ATELIER_ENTERPRISE_PER_MINUTE": str(60 * RATE),
        "ATELIER_MAX_LIVE_JOBS": str(LIVE),
        "ATELIER_QUEUE_SIZE": str(QUEUE),
        "ATELIER_SUBMIT_TURN_SECONDS": "1",
    }
    rig.start("gateway-1", "gateway-2", **limits)
    clients = [history.client(name, person.headers) for name, person in people.items()]
    refusals: Counter[str] = Counter()
    untold: list[str] = []
    seconds = size(6, 60)
    until = time.monotonic() + seconds
    rig.broke()

    def push(client: Client) -> None:
        while time.monotonic() < until:
            key = uuid.uuid4().hex
            body = {"steps": 1, "step_seconds": 0.2, "say": f"canary-of-{client.tenant} {say(0)}"}
            status, response = client.ask("POST", "/toys/play", key=key, json=body)
            assert response is not None
            if status == 202:
                job = str(response.json()["job_id"])
                history.record.jobs[job] = Asked(job, client.tenant, key, body, time.time())
                continue
            refusals[f"{status} {response.json()['error']}"] += 1
            if not 1 <= int(response.headers.get("Retry-After", 0)) <= 86_400:
                untold.append(response.text)

    def look(client: Client) -> None:
        chance = random.Random(client.tenant)
        while time.monotonic() < until:
            time.sleep(0.05)
            if not (own := [job.id for job in list(history.record.jobs.values()) if job.tenant == client.tenant]):
                continue
            job = chance.choice(own[-100:])
            if client.status(job)["status"] == "completed":
                client.result(job)
            elif chance.random() < 0.1:
                client.cancel(job)

    with watching(rig.members("gateway")) as watched, ThreadPoolExecutor(30) as pool:
        crowd = [clients[0]] * 10 + clients * 3  # the first one alone asks for more than one may have
        tasks = [pool.submit(push, client) for client in crowd]
        tasks += [pool.submit(look, client) for client in clients]
        for task in tasks:
            task.result()
    exchanges = history.record.exchanges
    told_of("submits", (told for told in exchanges if told.path == "/toys/play"))
    for name, start, end in (("status", "/status/", ""), ("results", "/results/", ""), ("cancel", "/jobs/", "/cancel")):
        told_of(name, (told for told in exchanges if told.path.startswith(start) and told.path.endswith(end)))
    offered = Counter(told.tenant for told in exchanges if told.path == "/toys/play")
    print(offered.total(), "offered,", len(history.jobs), "accepted;", dict(refusals))
    assert offered[OWNERS[0]] >= 2 * RATE * seconds
    assert offered.total() >= 2 * len(history.jobs)
    assert _longest_queue(rig, history.jobs) <= QUEUE
    assert {told.status for told in exchanges if told.path == "/toys/play"} <= {202, 429, 503}
    assert untold == []
    assert {"429 rate_limited", "429 too_many_jobs", "503 queue_full"} <= refusals.keys()
    assert all(each.growth < ROOM for each in watched)
    history.ended()
    assert set(history.states().values()) <= {"completed", "cancelled"}
    history.verify()


def _longest_queue(rig: Rig, jobs: list[str]) -> int:
    """The most of these jobs that were queued at one moment."""
    moves = "SELECT before, state FROM moves WHERE job = ANY(%s::uuid[]) ORDER BY number"
    changes = ((after == "queued") - (before == "queued") for before, after in rig.postgres.rows(moves, jobs))
    return max(accumulate(changes))


# --- too slow ones


def test_slow_clients(rig: Rig, history: History, size: Size) -> None:
    """Hundreds of connections that send or read a byte now and then, while others work"""
    (client, credential), count = owner(rig, history), size(20, 200)
    impatient = {
        "ATELIER_HEADER_SECONDS": "2",
        "ATELIER_TRANSFER_GRACE_SECONDS": "2",
        "ATELIER_TRANSFER_BYTES_PER_SECOND": "1000",
    }
    rig.start("gateway-1", "gateway-2", **impatient)
    large = client.submit(files=1, size=20_000_000, say=say(0))
    wait_until(lambda: client.status(large)["status"] == "completed", 180, "a large result")
    body = {"Content-Type": "application/json", "Content-Length": "100000"}
    kinds = [
        (head("GET /health", credential) + b"X-Slow: ", False),
        (head("POST /toys/play", credential | body) + b"\r\n{", False),
        (head(f"GET /results/{large}", credential) + b"\r\n", True),
    ]
    with ExitStack() as stack, watching(rig.members("gateway")) as watched:
        slow = [Slow(stack, gateway.port, *kinds[n % 3]) for gateway in rig.members("gateway") for n in range(count)]
        rig.broke()
        began = len(history.record.exchanges)
        with ThreadPoolExecutor(1) as pool:
            dripping = pool.submit(_drip, slow)
            for number in range(size(10, 100)):
                client.status(client.submit(say=say(number + 1)))
            assert dripping.result() == len(slow), "somebody slow was never cut off"
        told_of("others", history.record.exchanges[began:])
    assert all(each.growth < ROOM for each in watched)
    history.ended()
    history.verify()


class Slow:
    """A connection that sends this beginning, and then sends, or `reads`, a byte now and then."""

    def __init__(self, stack: ExitStack, port: int, beginning: bytes, reads: bool) -> None:
        self._connection, self._reads = stack.enter_context(socket.socket()), reads
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._connection.settimeout(30)
        self._connection.connect(("127.0.0.1", port))
        self._connection.sendall(beginning)

    def drips(self) -> bool:
        """One byte more; whether the gateway still bears it."""
        try:
            if self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # reset; some bytes may still wait
                return False
            if self._reads:
                return bool(self._connection.recv(1))
            if select.select([self._connection], [], [], 0)[0]:
                return bool(self._connection.recv(65_536))
            self._connection.send(b"x")
        except OSError:
            return False
        return True


def _drip(connections: list[Slow]) -> int:
    """Go on until they are cut off; how many were, within three minutes."""
    alive, until = list(connections), time.monotonic() + 180
    while alive and time.monotonic() < until:
        time.sleep(0.3)
        alive = [connection for connection in alive if connection.drips()]
    return len(connections) - len(alive)


# --- too large ones


def test_requests_of_5_gb(rig: Rig, history: History) -> None:
    """5 GB are posted by somebody who does not listen: refused with 413, cut off, and held nowhere"""
    client, credential = owner(rig, history)
    rig.start("gateway-1", ATELIER_MAX_UPLOAD_BYTES=str(50 * MIB))
    stored = _stored(rig)
    rig.broke()
    with watching([rig["gateway-1"]]) as watched:
        for path, media_type, start in (
            ("/toys/play", "application/json", b"["),
            ("/toys/stamp", "multipart/form-data; boundary=b", FORM),
            ("/uploads", "application/octet-stream", b"x"),
        ):
            for chunked in (False, True):
                request = head(f"POST {path}", credential | {"Content-Type": media_type} | _length(chunked))
                answer, sent = _pour(rig["gateway-1"].port, request, start, chunked)
                print(f"{path}, {'chunked' if chunked else 'announced'}: cut off after {sent / MIB:.0f} MiB")
                assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
                assert sent < 150 * MIB
    assert watched[0].growth < ROOM
    wait_until(lambda: _stored(rig) <= stored, 60, "what was stored of them to go")
    client.submit(say=say(1))
    history.ended()
    history.verify()


FORM = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'


def _length(chunked: bool) -> dict[str, str]:
    return {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(GIGABYTES)}


def _pour(port: int, request: bytes, start: bytes, chunked: bool) -> tuple[bytes, int]:
    """Send 5 GB whatever is answered, until cut off; the answer, and the bytes sent."""
    block, answer, sent = bytes(MIB), b"", 0
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(request + b"\r\n")
        try:
            while sent < GIGABYTES:
                piece = block if sent else start
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                sent += len(piece)
                if not answer and select.select([connection], [], [], 0)[0]:
                    answer = connection.recv(65_536)
        except OSError:
            pass
    return answer, sent


def _stored(rig: Rig) -> int:
    """Bytes in the storage folder."""
    return sum(path.stat().st_size for path in (rig.folder / "storage").rglob("*") if path.is_file())


# --- results that go


def test_retention_during_downloads(rig: Rig, history: History, size: Size) -> None:
    """Results pass their time and are deleted while they are read: readers get all of them, who comes later 410"""
    (client, credential), readers = owner(rig, history), size(6, 50)
    rig.start("coordinator-1", "coordinator-2", ATELIER_PURGE_GRACE_SECONDS="1")
    before, record = _stored(rig), Record()  # the judge would miss their files
    gateways = [rig.url(member.name) for member in rig.members("gateway")]
    passing = Client(record, gateways, client.tenant, credential)
    jobs = [passing.submit(files=2, size=4_000_000, seed=10 * number, say=say(number)) for number in range(5)]
    wait_until(lambda: all(passing.status(job)["status"] == "completed" for job in jobs), 180, "results")
    half = threading.Barrier(readers + 1, timeout=180)
    gone = threading.Event()

    def read(number: int) -> tuple[str, bytes]:
        job, parts, got = jobs[number % len(jobs)], [], 0
        address = f"{gateways[number % 2]}/results/{job}"
        with httpx.stream("GET", address, headers=credential, timeout=60) as stream:
            assert stream.status_code == 200
            chunks = stream.iter_raw(65_536)
            while got < 1_000_000:
                parts.append(next(chunks))
                got += len(parts[-1])
            half.wait()
            gone.wait(180)
            parts.extend(chunks)
        return job, b"".join(parts)

    with ThreadPoolExecutor(readers) as pool:
        reading = [pool.submit(read, number) for number in range(readers)]
        half.wait()
        rig.broke()
        rig.postgres.rows("UPDATE jobs SET purge_after = now() WHERE id = ANY(%s::uuid[]) RETURNING 1", jobs)
        wait_until(lambda: {passing.ask("GET", f"/results/{job}")[0] for job in jobs} == {410}, 60, "410")
        wait_until(lambda: _stored(rig) <= before, 60, "the files to be deleted")
        gone.set()
        others = [client.submit(say=say(number)) for number in range(size(3, 20))]
        read_whole = [task.result() for task in reading]
    for job, answer in read_whole:
        seed = 10 * jobs.index(job)
        with zipfile.ZipFile(io.BytesIO(answer)) as archive:
            assert archive.testzip() is None
            assert [archive.read(f"file_{n}.bin") == content(seed + n, 4_000_000) for n in range(2)] == [True, True]
    assert {told.status for told in record.exchanges if told.path.startswith("/results/")} <= {200, 410}
    passing.close()
    history.ended()
    assert [client.status(job)["status"] for job in others] == ["completed"] * len(others)
    history.verify()
