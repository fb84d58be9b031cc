"""Files as text, in JSON and in forms, through the real processes: base64, data URIs, addresses, artifacts of jobs."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import httpx
import pytest

from tests.egress.servers import Server, redirect, reply, serving
from tests.forms import JPEG, MULTIPART, PNG, WEBP, config, form, long_picture, part
from tests.integration.kept import Kept
from tests.platform import Platform, wait_until
from tests.toys.family import MAX_PICTURE

STAMP = "/toys/stamp"
OUTSIDE, INSIDE = "127.0.0.2", "127.0.0.1"  # only the first one may be asked
UNKNOWN = "0199a7f0-0000-7000-8000-00000000000b"
NO_FILE = "Invalid picture: no completed job of yours has this file."


@pytest.fixture(scope="module")
def web() -> Iterator[Server]:
    """What lies on the web."""
    with serving({"/a.png": reply(PNG)}, OUTSIDE) as server:
        yield server


@pytest.fixture(scope="module")
def inside(web: Server) -> Iterator[Server]:
    """What lies on the same port of a place where nobody may go."""
    with serving({"/a.png": reply(PNG)}, INSIDE, web.port) as server:
        yield server


@pytest.fixture(scope="module")
def environment(environment: dict[str, str], web: Server) -> dict[str, str]:
    """The worker may ask the test's server; files go soon when they are to go."""
    way_out = {"ATELIER_EGRESS_PORTS": str(web.port), "ATELIER_EGRESS_NETWORKS": f"{OUTSIDE}/32"}
    quick = {"ATELIER_PURGE_GRACE_SECONDS": "0.1", "ATELIER_REAP_SECONDS": "0.1"}
    return {**environment, **quick, **way_out}


@pytest.fixture(scope="module")
def kept(database_url: str, storage_url: str) -> Iterator[Kept]:
    kept = Kept(database_url, storage_url)
    yield kept
    kept.close()


def encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()


def post(platform: Platform, picture: Any, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return platform.client.post(STAMP, json={"picture": picture, **fields}, headers=headers)


def accepted(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def stamp(platform: Platform, job_id: str) -> dict[str, Any]:
    """What the runner saw."""
    ended = platform.finished(job_id)
    assert ended["status"] == "completed", ended
    return platform.client.get(f"/results/{job_id}/files/stamp.json").json()


def refused(platform: Platform, answer: httpx.Response, kept: Kept, before: Any, status: int = 400) -> str:
    """The message of a refusal that names the field and leaves nothing."""
    assert (answer.status_code, answer.json()["details"]["field"]) == (status, "picture"), answer.text
    assert kept.snapshot() == before
    return str(answer.json()["message"])


SENT: dict[str, Callable[[bytes], str]] = {
    "base64": encoded,
    "base64 in lines": lambda body: base64.encodebytes(body).decode(),
    "a data URI": lambda body: f"data:image/png;base64,{encoded(body)}",
    "a data URI of another kind": lambda body: f"DATA:text/plain;charset=utf-8;base64,{encoded(body)}",
}


@pytest.mark.parametrize("way", SENT)
@pytest.mark.parametrize("body", [PNG, JPEG, WEBP, long_picture(MAX_PICTURE)], ids=["png", "jpeg", "webp", "largest"])
def test_the_runner_gets_the_bytes_that_were_sent_as_text(
    platform: Platform, kept: Kept, way: str, body: bytes
) -> None:
    in_json = accepted(post(platform, SENT[way](body), say="hé"))
    text = form(part("picture", SENT[way](body).encode()), config('{"say": "hé"}'.encode()))
    in_form = accepted(platform.client.post(STAMP, content=text, headers={"Content-Type": MULTIPART}))
    digest = hashlib.sha256(body).hexdigest()
    for job_id in (in_json, in_form):
        found = stamp(platform, job_id)
        described = found["request"]["picture"]
        assert (found["sha256"], found["request"]["say"]) == (digest, "hé")
        assert (described["size"], described["sha256"], described["name"]) == (len(body), digest, "picture")
        assert described["media_type"] == {PNG[:4]: "image/png", JPEG[:4]: "image/jpeg"}.get(body[:4], "image/webp")
        assert [file.read_bytes() for file in kept.files(job_id)] == [body]


def test_json_with_escaped_slashes_is_read(platform: Platform) -> None:
    """As PHP writes it."""
    body = json.dumps({"picture": encoded(long_picture(MAX_PICTURE))}).replace("/", "\\/")
    answer = platform.client.post(f"/sync{STAMP}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text


TEXTS: dict[str, Any] = {
    "an empty text": "",
    "words": "a painting",
    "base64 without its padding": encoded(PNG).rstrip("=") + "A",
    "base64 for addresses": base64.urlsafe_b64encode(b"\xff\xff\xfe" + PNG).decode(),
    "base64 of no picture": encoded(b"Dear reader, I am no picture."),
    "half a signature": encoded(PNG[:4]),
    "a data URI without base64": "data:image/png,%89PNG",
    "a data URI without a comma": f"data:image/png;base64{encoded(PNG)}",
    "a number": 5,
    "an object": {"name": "a", "media_type": "image/png", "size": 1, "sha256": "0" * 64},
    "an object with an address": {"name": "a", "source": "http://127.0.0.1/"},
    "a list": [encoded(PNG)],
    "nothing": None,
    "another scheme": "ftp://example.com/a.png",
    "a file": "file:///etc/passwd",
    "an address with a password": "http://me:s3cr3t@example.com/a.png",
    "an address with a port": "http://example.com:22/a.png?sig=s3cr3t",
    "an address without a host": "http:///a.png",
    "an address of 2,049 letters": "http://example.com/" + "a" * 2030,
    "letters that are not ASCII": "é" * 8,
}


@pytest.mark.hostile("F")
@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_file_is_refused_by_name_and_leaves_nothing(
    platform: Platform, kept: Kept, name: str
) -> None:
    before = kept.snapshot()
    message = refused(platform, post(platform, TEXTS[name]), kept, before)
    assert "s3cr3t" not in message
    assert len(message) < 200


@pytest.mark.hostile("F")
@pytest.mark.parametrize("more", [1, 3, 1000])
def test_a_text_that_is_too_large_is_refused(platform: Platform, kept: Kept, more: int) -> None:
    before = kept.snapshot()
    refused(platform, post(platform, encoded(long_picture(MAX_PICTURE + more))), kept, before, status=413)


@pytest.mark.hostile("F")
@pytest.mark.parametrize(
    "body",
    [
        {"picture": encoded(PNG), "say": "x" * 1_000_001},
        {"picture": encoded(PNG), "say": "x y" * 500_000},
        {"picture": [1] * 500_001},
        {"say": "x" * 5_000_000, "picture": encoded(PNG)},
    ],
    ids=["long", "long with spaces", "a list", "beyond all"],
)
def test_only_files_may_be_long(platform: Platform, kept: Kept, body: dict[str, Any]) -> None:
    before = kept.snapshot()
    assert platform.client.post(STAMP, json=body).status_code == 413
    assert platform.client.post("/toys/play", json={"say": "x" * 1_000_001}).status_code == 413
    assert kept.snapshot() == before


def play(platform: Platform) -> str:
    """A job with a picture among its files."""
    job_id = accepted(post(platform, encoded(PNG)))
    stamp(platform, job_id)
    return job_id


@pytest.mark.parametrize("body", ["json", "form"])
def test_an_artifact_is_copied_and_outlives_its_job(platform: Platform, kept: Kept, body: str) -> None:
    first = play(platform)
    reference = f"job:{first}/copy.bin"
    if body == "json":
        second = accepted(post(platform, reference, steps=20, step_seconds=0.05))
    else:
        text = form(part("picture", reference.encode()))
        second = accepted(platform.client.post(STAMP, content=text, headers={"Content-Type": MULTIPART}))
    assert platform.client.delete(f"/jobs/{first}").status_code == 204
    wait_until(lambda: not kept.everything(first), what="the end of the first job's files")
    found = stamp(platform, second)
    assert found["sha256"] == hashlib.sha256(PNG).hexdigest()
    described = found["request"]["picture"]
    assert described == {
        "name": "copy.bin",
        "media_type": "image/png",
        "size": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "source": reference,
    }
    assert [file.read_bytes() for file in kept.files(second)] == [PNG]


@pytest.mark.hostile("F")
def test_jobs_that_give_no_file_are_told_alike(platform: Platform, kept: Kept) -> None:
    done, foreign, purged = play(platform), play(platform), play(platform)
    kept.execute("UPDATE jobs SET owner = 'somebody else' WHERE id = %s", foreign)
    kept.execute("UPDATE jobs SET purged = 'marked', purged_at = now() + interval '1 hour' WHERE id = %s", purged)
    running = accepted(post(platform, encoded(PNG), steps=1000, step_seconds=0.02))
    failed = accepted(post(platform, encoded(PNG), fail="input", priority=9))
    jobs = (UNKNOWN, foreign, purged, running, failed)
    references = [f"job:{job_id}/copy.bin" for job_id in jobs]
    references += [f"job:{done}/nothing.bin", f"job:{done}/", f"job:{done}", "job:", "job:5/a", f"job:{done}/../input"]
    before = kept.snapshot()
    assert {refused(platform, post(platform, text), kept, before) for text in references} == {NO_FILE}
    platform.client.post(f"/jobs/{running}/cancel")
    platform.finished(running)


@pytest.mark.hostile("F")
def test_an_artifact_must_be_a_file_of_the_field(platform: Platform, kept: Kept) -> None:
    job_id = accepted(post(platform, encoded(PNG), files=1, size=MAX_PICTURE + 1))
    platform.finished(job_id)
    before = kept.snapshot()
    assert "none of image/png" in refused(platform, post(platform, f"job:{job_id}/stamp.json"), kept, before)
    refused(platform, post(platform, f"job:{job_id}/file_0.bin"), kept, before, status=413)


@pytest.mark.hostile("F")
def test_an_artifact_that_is_not_what_its_manifest_says_is_not_taken(platform: Platform, kept: Kept) -> None:
    job_id = play(platform)
    (file,) = [path for path in kept.everything(job_id) if path.suffix == ".bin"]
    file.write_bytes(PNG[:-1] + b"x")
    before = kept.snapshot()
    answer = post(platform, f"job:{job_id}/copy.bin")
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
    assert kept.snapshot() == before


def url(web: Server, path: str = "/a.png", host: str = OUTSIDE) -> str:
    return f"http://{host}:{web.port}{path}"


def test_the_worker_fetches_an_address_once_and_keeps_what_it_got(platform: Platform, kept: Kept, web: Server) -> None:
    web.behaviours["/moved"] = redirect("/a.png?sig=s3cr3t")
    before = len(web.asked)
    job_id = accepted(post(platform, url(web, "/moved?sig=s3cr3t"), fail="once"))
    found = stamp(platform, job_id)
    assert (platform.status(job_id)["attempt"], found["sha256"]) == (2, hashlib.sha256(PNG).hexdigest())
    assert len(web.asked) == before + 2, "the second attempt uses what the first one got"
    assert [file.read_bytes() for file in kept.files(job_id)] == [PNG]
    archive = ZipFile(BytesIO(platform.client.get(f"/results/{job_id}").content))
    manifest = json.loads(archive.read("manifest.json"))
    assert manifest["input"]["picture"]["source"] == url(web, "/moved")
    for log in platform.logs.iterdir():
        assert "s3cr3t" not in log.read_text()
    assert platform.client.delete(f"/jobs/{job_id}").status_code == 204
    wait_until(lambda: not kept.everything(job_id), what="an empty folder")


def failed(platform: Platform, address: str) -> tuple[str, int, str]:
    """Code, attempts and text of a job's error."""
    ended = platform.finished(accepted(post(platform, address)))
    assert ended["status"] == "failed", ended
    return ended["error"]["code"], ended["attempt"], ended["error"]["message"]


@pytest.mark.hostile("F")
def test_an_address_that_may_not_be_asked_fails_the_job_at_once(
    platform: Platform, kept: Kept, web: Server, inside: Server
) -> None:
    web.behaviours["/inside"] = redirect(url(inside, host=INSIDE))
    web.behaviours["/file"] = redirect("file:///etc/passwd")
    same = ("fetch_refused", 1, "picture: The address could not be fetched.")
    for address in (
        url(inside, "/a.png?sig=s3cr3t", INSIDE),
        url(web, "/inside"),
        url(web, "/file"),
        "http://10.0.0.1/",
    ):
        assert failed(platform, address) == same
    assert inside.asked == []
    for log in platform.logs.iterdir():
        assert "s3cr3t" not in log.read_text()


@pytest.mark.hostile("F")
@pytest.mark.parametrize(
    ("behaviour", "code", "said"),
    [
        (reply(b"gone", 404), "fetch_refused", "status 404"),
        (reply(b"", 204), "fetch_refused", "status 204"),
        (reply(b"Dear reader, I am no picture."), "input_rejected", "none of image/png"),
        (reply(b""), "input_rejected", "none of image/png"),
        (reply(long_picture(MAX_PICTURE + 1)), "fetch_refused", f"larger than {MAX_PICTURE} bytes"),
        (reply(PNG, Content_Encoding="gzip"), "fetch_refused", "compressed"),
    ],
    ids=["404", "204", "no picture", "nothing", "too large", "compressed"],
)
def test_what_is_no_such_file_fails_the_job_at_once(
    platform: Platform, kept: Kept, web: Server, behaviour: Any, code: str, said: str
) -> None:
    web.behaviours["/b.png"] = behaviour
    found, attempts, message = failed(platform, url(web, "/b.png?sig=s3cr3t"))
    assert (found, attempts) == (code, 1)
    assert said in message
    assert "picture" in message
    assert "s3cr3t" not in message


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_address_is_asked_again(platform: Platform, web: Server, status: int) -> None:
    answers = [reply(b"", status), reply(PNG)]
    web.behaviours["/busy.png"] = lambda handler: answers.pop(0)(handler)
    job_id = accepted(post(platform, url(web, "/busy.png")))
    assert stamp(platform, job_id)["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert platform.status(job_id)["attempt"] == 2


def test_an_address_that_never_works_fails_the_job_in_the_end(platform: Platform, kept: Kept, web: Server) -> None:
    web.behaviours["/cut.png"] = reply(PNG[:100], Content_Length="500")
    code, attempts, message = failed(platform, url(web, "/cut.png"))
    assert (code, attempts, message) == ("fetch_failed", 3, "picture: The address could not be fetched.")
    web.behaviours["/cut.png"] = reply(b"", 500)
    assert failed(platform, url(web, "/cut.png"))[:2] == ("fetch_failed", 3)


def sources(platform: Platform, kept: Kept, web: Server) -> dict[str, tuple[str, str]]:
    """Two texts of each kind that do not mean the same."""
    job_id = play(platform)
    return {
        "base64": (encoded(PNG), encoded(JPEG)),
        "an address": (url(web), url(web, "/a.png?other")),
        "an artifact": (f"job:{job_id}/copy.bin", f"job:{job_id}/stamp.json"),
    }


@pytest.mark.parametrize("kind", ["base64", "an address", "an artifact"])
def test_one_key_and_request_make_one_job(platform: Platform, kept: Kept, web: Server, kind: str) -> None:
    one, other = sources(platform, kept, web)[kind]
    key = {"Idempotency-Key": f"{kind}-{time.monotonic()}".replace(" ", "-")}
    first = accepted(post(platform, one, key))
    stamp(platform, first)
    before = kept.snapshot()
    again = post(platform, one, key)
    assert (accepted(again), again.headers["idempotent-replayed"]) == (first, "true")
    waiting = post(platform, one, {**key, "Prefer": "wait=30"})
    assert (waiting.status_code, waiting.headers["idempotent-replayed"]) == (200, "true")
    different = post(platform, other, key)
    assert different.status_code == (400 if kind == "an artifact" else 422), different.text
    assert kept.snapshot() == before


def test_a_retry_is_answered_although_the_artifacts_job_is_gone(platform: Platform, kept: Kept) -> None:
    first = play(platform)
    key, reference = {"Idempotency-Key": f"gone-{first}"}, f"job:{first}/copy.bin"
    second = accepted(post(platform, reference, key))
    assert platform.client.delete(f"/jobs/{first}").status_code == 204
    again = post(platform, reference, key)
    assert (accepted(again), again.headers["idempotent-replayed"]) == (second, "true")
    assert post(platform, reference, {**key, "Prefer": "wait=30"}).status_code == 200
    assert post(platform, reference).json()["message"] == NO_FILE
    assert post(platform, reference, key, say="other").json()["message"] == NO_FILE
