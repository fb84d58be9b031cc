"""Operations that take a form, through the real processes: what becomes of the file, from its client to its end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.app import make_app
from services.gateway.state import GatewayState
from shared.errors import OutcomeUnknown
from shared.jobs.submissions import Receipt, Submission
from shared.settings import Settings
from tests.forms import GOOD, JPEG, MULTIPART, PNG, REFUSED, WEBP, config, form, long_picture, picture
from tests.integration.kept import Kept
from tests.platform import Platform, wait_until
from tests.toys.family import MAX_PICTURE
from workers.families import families

HEADERS = {"Content-Type": MULTIPART}
STAMP = "/toys/stamp"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes put their temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def environment(environment: dict[str, str], temporary: Path) -> dict[str, str]:
    """Files go soon when they are to go."""
    quick = {"ATELIER_PURGE_GRACE_SECONDS": "0.1", "ATELIER_REAP_SECONDS": "0.1"}
    return {**environment, **quick, "TMPDIR": str(temporary)}


@pytest.fixture(scope="module")
def kept(database_url: str, storage_url: str) -> Iterator[Kept]:
    kept = Kept(database_url, storage_url)
    yield kept
    kept.close()


@pytest.fixture
def busy(platform: Platform) -> Iterator[Callable[[], None]]:
    """The worker has a job, so that others wait; calling this sets it free."""
    job_id = platform.submit(steps=3000, step_seconds=0.02, priority=9)
    platform.running(job_id)
    yield lambda: platform.client.post(f"/jobs/{job_id}/cancel")
    platform.client.post(f"/jobs/{job_id}/cancel")
    platform.finished(job_id)


def post(platform: Platform, body: bytes, path: str = STAMP, **headers: str) -> httpx.Response:
    return platform.client.post(path, content=body, headers=HEADERS | headers)


def accepted(platform: Platform, body: bytes = GOOD, **headers: str) -> str:
    answer = post(platform, body, **headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def stamp(platform: Platform, job_id: str) -> dict[str, Any]:
    """What the runner saw."""
    assert platform.finished(job_id)["status"] == "completed"
    return platform.client.get(f"/results/{job_id}/files/stamp.json").json()


@pytest.mark.parametrize("body", [PNG, JPEG, WEBP, long_picture(MAX_PICTURE)], ids=["png", "jpeg", "webp", "largest"])
def test_the_runner_gets_the_bytes_that_were_sent(platform: Platform, kept: Kept, body: bytes) -> None:
    job_id = accepted(platform, form(config(b'{"say": "h\xc3\xa9", "seed": 7}'), picture(body, "dir/é.png")))
    found, digest = stamp(platform, job_id), hashlib.sha256(body).hexdigest()
    assert found["sha256"] == digest
    assert (found["request"]["say"], found["request"]["seed"]) == ("hé", 7)
    described = found["request"]["picture"]
    assert (described["name"], described["size"], described["sha256"]) == ("é.png", len(body), digest)
    assert [file.read_bytes() for file in kept.files(job_id)] == [body]


def test_what_clients_send_by_their_own_means_is_a_form(platform: Platform) -> None:
    answer = platform.client.post(STAMP, files={"picture": ("a.png", PNG, "image/png")}, data={"config": "{}"})
    assert stamp(platform, answer.json()["job_id"])["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert platform.client.post(STAMP, files={"picture": PNG}).status_code == 202, "the JSON may be left out"


@pytest.mark.parametrize(("path", "headers"), [(f"/sync{STAMP}", {}), (STAMP, {"Prefer": "wait=30"})])
def test_a_client_that_waits_gets_the_reply(platform: Platform, path: str, headers: dict[str, str]) -> None:
    answer = post(platform, GOOD, path, **headers)
    assert (answer.status_code, answer.json()["said"]) == (200, "seen")


@pytest.mark.hostile("F")
@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_request_is_refused_by_name_and_leaves_nothing(platform: Platform, kept: Kept, name: str) -> None:
    refused, before = REFUSED[name], kept.snapshot()
    answer = platform.client.post(STAMP, content=refused.body, headers={"Content-Type": refused.content_type})
    assert (answer.status_code, answer.headers["content-type"]) == (refused.status, "application/problem+json")
    assert answer.json()["details"].get("field") == refused.field
    assert kept.snapshot() == before
    assert post(platform, GOOD, f"/sync{STAMP}").json()["said"] == "seen"


def test_a_form_is_told_what_is_taken_here(platform: Platform) -> None:
    answer = post(platform, GOOD, "/toys/play")
    assert (answer.status_code, answer.headers["accept"]) == (415, "application/json")


def upload(platform: Platform, sent: bytes, announced: int) -> socket.socket:
    """A connection over which so many bytes of a form were sent, of those that were announced."""
    connection = socket.create_connection(("127.0.0.1", platform.port), timeout=30)
    head = f"POST {STAMP} HTTP/1.1\r\nHost: here\r\nContent-Type: {MULTIPART}\r\nContent-Length: {announced}\r\n\r\n"
    connection.sendall(head.encode() + sent)
    return connection


@pytest.mark.hostile("F")
def test_too_large_a_form_is_refused_before_all_of_it_is_there(platform: Platform, kept: Kept) -> None:
    before = kept.snapshot()
    with upload(platform, form(picture(bytes(MAX_PICTURE + 1_100_000)))[:-100], 10**12) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert kept.snapshot() == before


def refusals(platform: Platform) -> float:
    """How many posts of forms were answered with 400."""
    text = platform.client.get("/metrics", headers={"Accept": "text/plain"}).text
    name = f'atelier_http_requests_total{{method="POST",route="{STAMP}",status="400"}} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


@pytest.mark.hostile("F")
def test_a_client_that_goes_away_in_the_middle_leaves_nothing(platform: Platform, kept: Kept) -> None:
    before, refused = kept.snapshot(), refusals(platform)
    upload(platform, GOOD[:300], len(GOOD)).close()
    wait_until(lambda: refusals(platform) == refused + 1, what="the end of the request")
    assert kept.snapshot() == before
    assert "unexpected error" not in (platform.logs / "gateway.log").read_text(), "it is no bug of ours"
    assert post(platform, GOOD, f"/sync{STAMP}").json()["said"] == "seen"


def test_one_key_and_form_make_one_job_with_one_file(platform: Platform, kept: Kept) -> None:
    key = {"Idempotency-Key": "form-1"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(platform, GOOD, **key), range(16)))
    assert {answer.status_code for answer in answers} == {202}
    assert [answer.headers.get("idempotent-replayed") for answer in answers].count(None) == 1
    (job_id,) = {answer.json()["job_id"] for answer in answers}
    assert {file.parts[-3] for file in kept.files()} <= kept.jobs(), "no file without its job"
    assert len(kept.files(job_id)) == 1
    stamp(platform, job_id)
    replayed = post(platform, GOOD, f"/sync{STAMP}", **key)
    assert (replayed.status_code, replayed.headers["idempotent-replayed"]) == (200, "true")
    assert {file.parts[-3] for file in kept.files()} <= kept.jobs()


@pytest.mark.hostile("F")
@pytest.mark.parametrize(
    "other",
    [form(picture(JPEG), config()), form(picture(), config(b"{}")), form(picture(PNG, "other.png"), config())],
    ids=["file", "config", "name"],
)
def test_the_same_key_with_another_form_is_refused(platform: Platform, kept: Kept, other: bytes) -> None:
    headers = {"Idempotency-Key": f"other-{hashlib.sha256(other).hexdigest()}"}
    accepted(platform, GOOD, **headers)
    before = kept.snapshot()
    answer = post(platform, other, **headers)
    assert (answer.status_code, answer.json()["error"]) == (422, "idempotency_key_reused")
    assert kept.snapshot() == before


def delete(platform: Platform, kept: Kept, job_id: str) -> None:
    assert platform.client.delete(f"/jobs/{job_id}").status_code == 204


def outlive(platform: Platform, kept: Kept, job_id: str) -> None:
    kept.execute("UPDATE jobs SET purge_after = now() WHERE id = %s", job_id)


@pytest.mark.parametrize("end", [delete, outlive])
@pytest.mark.parametrize(("fields", "state"), [(b"{}", "completed"), (b'{"fail": "input"}', "failed")])
def test_the_file_goes_with_its_job(
    platform: Platform, kept: Kept, fields: bytes, state: str, end: Callable[[Platform, Kept, str], None]
) -> None:
    job_id = accepted(platform, form(picture(), config(fields)))
    assert platform.finished(job_id)["status"] == state
    assert kept.files(job_id)
    end(platform, kept, job_id)
    wait_until(lambda: not kept.everything(job_id), what="an empty folder")


@pytest.mark.usefixtures("busy")
def test_the_file_of_a_job_that_never_ran_goes_with_it(platform: Platform, kept: Kept) -> None:
    job_id = accepted(platform)
    assert kept.files(job_id)
    platform.client.post(f"/jobs/{job_id}/cancel")
    delete(platform, kept, job_id)
    wait_until(lambda: not kept.everything(job_id), what="an empty folder")


def vanish(file: Path) -> None:
    file.unlink()


def other_bytes(file: Path) -> None:
    file.write_bytes(PNG[:-1] + b"x")


def cut_short(file: Path) -> None:
    file.write_bytes(PNG[:-1])


@pytest.mark.hostile("F")
@pytest.mark.parametrize(
    ("harm", "said"),
    [(vanish, "cannot be read"), (other_bytes, "as it was accepted"), (cut_short, "as it was accepted")],
)
def test_a_file_that_is_not_what_was_accepted_fails_the_job(
    platform: Platform, kept: Kept, busy: Callable[[], None], harm: Callable[[Path], None], said: str
) -> None:
    job_id = accepted(platform)
    (file,) = kept.files(job_id)
    harm(file)
    busy()
    ended = platform.finished(job_id)
    assert (ended["status"], ended["error"]["code"], ended["attempt"]) == ("failed", "storage_unavailable", 3)
    assert "picture" in ended["error"]["message"]
    assert said in ended["error"]["message"]
    assert post(platform, GOOD, f"/sync{STAMP}").json()["said"] == "seen"


def test_a_second_attempt_gets_the_file_again(platform: Platform) -> None:
    job_id = accepted(platform, form(picture(), config(b'{"fail": "once"}')))
    assert stamp(platform, job_id)["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert platform.status(job_id)["attempt"] == 2


@pytest.mark.parametrize(
    ("fields", "state"),
    [({"steps": 20}, "completed"), ({"fail": "input"}, "failed"), ({"steps": 1000}, "cancelled")],
    ids=["completed", "failed", "cancelled"],
)
def test_the_workers_copy_lives_as_long_as_the_run(
    platform: Platform, temporary: Path, fields: dict[str, Any], state: str
) -> None:
    body = json.dumps({"step_seconds": 0.02, **fields}).encode()
    job_id = accepted(platform, form(picture(), config(body)))
    if "steps" in fields:
        platform.running(job_id)
        assert [copy.read_bytes() for copy in temporary.rglob("atelier-input-*/*")] == [PNG]
    if state == "cancelled":
        platform.client.post(f"/jobs/{job_id}/cancel")
    assert platform.finished(job_id)["status"] == state
    assert list(temporary.rglob("atelier-input-*")) == []


def in_process(environment: dict[str, str], work: Callable[[httpx.AsyncClient, GatewayState], Any], **own: Any) -> Any:
    """What the work returns, done with a gateway whose inside is within reach."""
    addresses = {name.lower(): environment[name] for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL")}
    app = make_app(Settings(**{**addresses, "allow_data_loss": "true", **own}), families())

    async def run() -> Any:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://here", headers=HEADERS) as client,
        ):
            return await work(client, app.state.gateway)

    with ThreadPoolExecutor(1) as pool:  # in the main thread it would take the signals
        return pool.submit(asyncio.run, run()).result()


@pytest.mark.usefixtures("busy")
def test_a_request_beyond_the_limits_leaves_nothing(kept: Kept, environment: dict[str, str]) -> None:
    before = kept.snapshot()
    answer = in_process(environment, lambda client, state: client.post(STAMP, content=GOOD), max_live_jobs=1)
    assert (answer.status_code, answer.json()["error"]) == (429, "too_many_jobs")
    assert kept.snapshot() == before


def test_a_job_whose_commit_was_not_heard_of_keeps_its_file(
    platform: Platform, kept: Kept, environment: dict[str, str]
) -> None:
    async def lose(client: httpx.AsyncClient, state: GatewayState) -> str:
        key, submit = {"Idempotency-Key": "unheard"}, state.submitter.submit

        async def unheard(submission: Submission) -> Receipt:
            await submit(submission)
            raise OutcomeUnknown("The connection broke.")

        state.submitter.submit = unheard
        assert (await client.post(STAMP, content=GOOD, headers=key)).status_code == 503
        state.submitter.submit = submit
        again = await client.post(STAMP, content=GOOD, headers=key)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
        return str(again.json()["job_id"])

    job_id = in_process(environment, lose)
    assert len(kept.files(job_id)) == 1
    assert stamp(platform, job_id)["sha256"] == hashlib.sha256(PNG).hexdigest()


def test_nothing_is_accepted_while_files_cannot_be_stored(
    kept: Kept, environment: dict[str, str], tmp_path: Path
) -> None:
    async def break_it(client: httpx.AsyncClient, state: GatewayState) -> httpx.Response:
        (tmp_path / "store").rename(tmp_path / "aside")
        (tmp_path / "store").write_text("not a folder")
        return await client.post(STAMP, content=GOOD)

    before = kept.jobs()
    answer = in_process(environment, break_it, storage_url=(tmp_path / "store").as_uri())
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert kept.jobs() == before
