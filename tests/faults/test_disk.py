"""A disk that is full, and one that flips bits: results in a folder, and files on their way through TMPDIR."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from shared.storage.local import PARTIAL
from tests.faults.history import History
from tests.faults.load import submit, submitting
from tests.faults.proxy import Network
from tests.faults.rig import Rig
from tests.faults.servers import Postgres, Receiver, Redis
from tests.platform import wait_until

Size = Callable[[int, int], int]
DISK = 64_000_000  # bytes
LARGE = 3_000_000  # some chunks of a download
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(2_000_000)  # so much of a form goes through a temporary file
FAILURES = "SELECT sum(failures) FROM jobs WHERE id = ANY(%s::uuid[])"
MANIFEST = "SELECT manifest FROM jobs WHERE id = %s"

pytestmark = pytest.mark.whole


class Disk:
    """A small file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True, capture_output=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is left; a file of ours holds them until the end of the block."""
        self.fill()
        try:
            yield
        finally:
            self._ballast.unlink()

    def fill(self) -> None:
        """Take what is free, also what has become free since."""
        with self._ballast.open("ab") as file:
            while free := os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize:
                with suppress(OSError):  # somebody has taken some of it since
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """For results."""
    yield from mounted(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """For temporary files."""
    yield from mounted(tmp_path_factory.mktemp("spool"))


def mounted(folder: Path) -> Iterator[Disk]:
    try:
        disk = Disk(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield disk
    disk.unmount()


@pytest.fixture(scope="module")
def whole_rig(
    tmp_path_factory: pytest.TempPathFactory,
    disk: Disk,
    spool: Disk,
    network: Network,
    postgres: Postgres,
    redis: Redis,
    receiver: Receiver,
) -> Iterator[Rig]:
    """With results and temporary files on small disks; in the place of the large rig."""
    folder = tmp_path_factory.mktemp("rig-on-small-disks")
    rig = Rig(
        folder,
        network,
        postgres.database("faults_on_small_disks"),
        redis.database(3),
        receiver,
        settings={"TMPDIR": str(spool.folder)},
    )
    rig.storage_url = (disk.folder / "results").as_uri()
    try:
        rig.start()
        rig.register_receiver()
        yield rig
    finally:
        rig.close()


def test_the_results_disk_is_full(disk: Disk, rig: Rig, history: History, size: Size) -> None:
    """The disk of the results is full: nothing more is accepted, and what is there waits for room"""
    history.excused = {503}
    client = history.client()
    with submitting(history, size(10, 60)):
        wait_until(lambda: "completed" in history.states().values(), 180, "a first result")
        rig.broke()
        with disk.full():

            def refused() -> bool:
                disk.fill()  # a job that could not be stored has given back what it had taken
                return client.post_once()[0] == 503

            wait_until(refused, 180, "a refusal")
            health = httpx.get(f"{rig.url('gateway-1')}/health", timeout=30).json()
            assert (health["healthy"], health["checks"]["storage"]["ok"]) == (False, False)
            assert "disk" in health["checks"]["storage"]["error"] or "space" in health["checks"]["storage"]["error"]
        rig.healed()
    history.ended()
    [(failures,)] = rig.postgres.rows(FAILURES, history.jobs)
    assert failures <= len(rig.members("worker")), "a worker takes nothing more until there is room"
    assert set(history.states().values()) == {"completed"}
    assert not list((disk.folder / "results" / PARTIAL).iterdir())
    history.verify()


def test_the_spool_is_full(spool: Disk, rig: Rig, history: History) -> None:
    """The disk for temporary files is full, at the gateways and at the workers"""
    history.excused = {503}
    client = history.client()

    def stamp() -> httpx.Response:
        status, answer = client.ask("POST", "/toys/stamp", files={"picture": ("a.png", PICTURE, "image/png")})
        assert answer is not None, status
        return answer

    def row(job: str) -> tuple[str, str | None]:
        return rig.postgres.rows("SELECT state, error ->> 'code' FROM jobs WHERE id = %s", job)[0]

    first = stamp().json()["job_id"]
    wait_until(lambda: row(first)[0] == "completed", 180, "a stamp")
    with ExitStack() as stack:
        for worker in rig.members("worker"):
            stack.enter_context(worker.stopped())
        second = stamp().json()["job_id"]
        spool.fill()
    with spool.full():
        rig.broke()
        refused = stamp()
        assert (refused.status_code, refused.json()["error"]) == (503, "unavailable")
        assert "Retry-After" in refused.headers
        wait_until(lambda: row(second)[1], 180, "a failure of the worker's")
        assert row(second)[1] == "storage_unavailable"
    rig.healed()
    wait_until(lambda: row(second)[0] == "completed", 180, "the second stamp")
    submit(history, 1)
    history.ended()
    history.verify()


def test_flipped_bits(rig: Rig, history: History) -> None:
    """Bits flip in the files of results: they are not served as right, in whole or in part"""
    [small] = submit(history, 1)
    [large] = submit(history, 1, size=LARGE)
    history.ended()
    history.excused = {500, "lost"}
    client, url = history.client(), rig.url("gateway-1")
    with flipped(rig, small), flipped(rig, large):
        rig.broke()
        for path in (f"/results/{job}{file}" for job in (small, large) for file in ("", "/files/file_0.bin")):
            answer = resumed(url + path)
            assert (answer.status_code, answer.json()["error"]) == (500, "result_damaged")
        assert client.ask("GET", f"/results/{large}") == (None, None), "the connection ends before the archive does"
        assert httpx.get(f"{url}/results/{large}/files/file_1.bin", timeout=30).status_code == 200
        assert httpx.get(f"{url}/metrics", timeout=30).json()["results_damaged"] >= 5
        assert "a stored file is damaged" in rig["gateway-1"].said()
    rig.healed()
    client.result(small)
    client.result(large)
    submit(history, 1)
    history.ended()
    history.verify()


@contextmanager
def flipped(rig: Rig, job: str) -> Iterator[None]:
    """A bit near the end of this job's first file is another during the block."""
    manifest = rig.postgres.rows(MANIFEST, job)[0][0]
    path = Path(httpx.URL(rig.storage_url).path) / manifest[0]["key"]
    right = path.read_bytes()
    place = len(right) - 100
    path.write_bytes(right[:place] + bytes([right[place] ^ 1]) + right[place + 1 :])
    try:
        yield
    finally:
        path.write_bytes(right)


def resumed(url: str) -> httpx.Response:
    """The refusal that a download comes to which goes on wherever it was cut off; not the whole, at any rate."""
    got = bytearray()
    while True:
        with httpx.stream("GET", url, headers={"Range": f"bytes={len(got)}-"}, timeout=30) as answer:
            if answer.is_error:
                answer.read()
                return answer
            with suppress(httpx.RemoteProtocolError):
                for chunk in answer.iter_raw():
                    got += chunk
