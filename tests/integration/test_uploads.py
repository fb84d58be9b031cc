"""Uploads through the real processes: in one request, in parts, interrupted, taken up elsewhere, shared, used, gone."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.gateway.uploads.receiver import PART
from tests.forms import JPEG, MULTIPART, PNG, config, form, long_picture, part
from tests.integration.kept import Kept
from tests.platform import ROOT, Platform, wait_until
from tests.toys.family import MAX_PICTURE
from tests.toys.runner import content
from tests.uploads import (
    BIG,
    OFFSET_STREAM,
    TUS,
    checksum,
    create,
    offset,
    patch,
    sending,
    sha256,
    status,
    stored,
    whole,
)

STAMP = "/toys/stamp"
PAGE = ROOT / "docs" / "uploads.md"
UNKNOWN = "0199a7f0-0000-7000-8000-00000000000b"
MOST, MOST_TOGETHER, MOST_UNFINISHED = 20_000_000, 50_000_000, 8
NO_UPLOAD = "Invalid picture: you have no completed upload with this id."


@pytest.fixture(scope="module")
def environment(environment: dict[str, str]) -> dict[str, str]:
    """Small limits; what is to go goes soon."""
    quick = {"ATELIER_PURGE_GRACE_SECONDS": "0.1", "ATELIER_REAP_SECONDS": "0.1"}
    limits = {
        "ATELIER_MAX_UPLOAD_BYTES": str(MOST),
        "ATELIER_MAX_OWNER_UPLOAD_BYTES": str(MOST_TOGETHER),
        "ATELIER_MAX_UNFINISHED_UPLOADS": str(MOST_UNFINISHED),
    }
    return {**environment, **quick, **limits}


@pytest.fixture(scope="module")
def kept(database_url: str, storage_url: str) -> Iterator[Kept]:
    kept = Kept(database_url, storage_url)
    yield kept
    kept.close()


@pytest.fixture(autouse=True)
def _empty(kept: Kept) -> None:
    """No upload of an earlier test counts, and all can be purged."""
    kept.execute("UPDATE uploads SET owner = 'anonymous', deleted_at = coalesce(deleted_at, now())")


@pytest.fixture
def client(platform: Platform) -> httpx.Client:
    return platform.client


@pytest.fixture
def other(environment: dict[str, str], platform: Platform, tmp_path: Path) -> Iterator[Platform]:
    """Another gateway over the same Postgres and storage."""
    other = Platform(environment, tmp_path)
    try:
        yield other.start("gateway")
    finally:
        other.close()


@pytest.fixture
def gone(storage_url: str) -> Callable[[], None]:
    """Waits until the storage keeps nothing of uploads that are deleted."""
    return lambda: wait_until(lambda: not stored(storage_url), what=f"an empty storage, not {stored(storage_url)}")


def post(client: httpx.Client, picture: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return client.post(STAMP, json={"picture": picture, **fields}, headers=headers)


def stamp(platform: Platform, answer: httpx.Response) -> dict[str, Any]:
    """What the runner saw."""
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    assert platform.finished(job_id)["status"] == "completed"
    return platform.client.get(f"/results/{job_id}/files/stamp.json").json()


def in_pieces(body: bytes) -> Iterator[bytes]:
    """Without a length that is known before."""
    for start in range(0, len(body), 70_000):
        yield body[start : start + 70_000]


WAYS: dict[str, Callable[[httpx.Client, bytes], httpx.Response]] = {
    "a form": lambda client, body: client.post("/uploads", files={"file": ("dir/ä.png", body, "text/html")}),
    "the body": lambda client, body: client.post("/uploads?name=dir/%C3%A4.png", content=body),
    "chunks": lambda client, body: client.post("/uploads?name=dir/%C3%A4.png", content=in_pieces(body)),
    "curl's own type": lambda client, body: client.post(
        "/uploads?name=ä.png", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [len(PNG), 2 * PART, 2 * PART + 7])
def test_one_request_is_enough(client: httpx.Client, way: str, size: int) -> None:
    body = long_picture(size)
    made = WAYS[way](client, body)
    assert made.status_code == 201, made.text
    told = made.json()
    assert (told["state"], told["size"], told["received"], told["sha256"]) == ("complete", size, size, sha256(body))
    assert (told["media_type"], told["name"]) == ("image/png", "ä.png")
    assert told["reference"] == f"upload:{told['id']}"
    assert made.headers["location"] == f"/uploads/{told['id']}"
    assert status(client, told["id"]) == told


def test_parts_make_the_file(client: httpx.Client) -> None:
    upload_id = create(client, len(BIG), **{"Upload-Metadata": "filename d29ybGQud2F2,private"})
    assert status(client, upload_id)["state"] == "receiving"
    at = 0
    for size in (5, PART + 1, len(BIG) - PART - 6):
        answer = patch(client, upload_id, at, BIG[at : at + size])
        at += size
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(at))
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert ("upload-expires" in answer.headers) == (at < len(BIG))
        assert offset(client, upload_id) == at
    told = status(client, upload_id)
    assert (told["state"], told["sha256"], told["name"]) == ("complete", sha256(BIG), "world.wav")
    head = client.head(f"/uploads/{upload_id}")
    assert (head.headers["upload-length"], head.headers["upload-metadata"]) == (
        str(len(BIG)),
        "filename d29ybGQud2F2,private",
    )
    assert patch(client, upload_id, len(BIG), b"").status_code == 204
    assert patch(client, upload_id, len(BIG), b"x").status_code == 413


def test_the_length_may_be_said_at_the_end(client: httpx.Client) -> None:
    upload_id = create(client, None)
    assert client.head(f"/uploads/{upload_id}").headers["upload-defer-length"] == "1"
    assert patch(client, upload_id, 0, PNG).status_code == 204
    assert patch(client, upload_id, len(PNG), b"", **{"Upload-Length": str(len(PNG) - 1)}).status_code == 400
    assert patch(client, upload_id, len(PNG), b"", **{"Upload-Length": str(MOST + 1)}).status_code == 413
    assert patch(client, upload_id, 0, b"", **{"Upload-Length": str(len(PNG))}).status_code == 409
    assert client.head(f"/uploads/{upload_id}").headers["upload-defer-length"] == "1", "a refusal changes nothing"
    assert patch(client, upload_id, len(PNG), b"", **{"Upload-Length": str(len(PNG))}).status_code == 204
    assert status(client, upload_id)["sha256"] == sha256(PNG)
    assert patch(client, upload_id, len(PNG), b"", **{"Upload-Length": "5"}).status_code == 400


def test_the_first_bytes_may_come_with_the_creation(client: httpx.Client) -> None:
    headers = TUS | {"Upload-Length": str(len(PNG)), "Content-Type": OFFSET_STREAM}
    made = client.post("/uploads", content=PNG[:100], headers=headers)
    assert (made.status_code, made.headers["upload-offset"]) == (201, "100")
    assert patch(client, made.json()["id"], 100, PNG[100:]).status_code == 204
    assert client.post("/uploads", content=PNG, headers=headers).json()["state"] == "complete"
    empty = client.post("/uploads", headers=TUS | {"Upload-Length": "0"}).json()
    assert (empty["state"], empty["size"], empty["sha256"]) == ("complete", 0, sha256(b""))


def test_what_came_before_the_connection_broke_is_kept(platform: Platform, client: httpx.Client) -> None:
    upload_id, came = create(client, len(BIG)), PART + 1_000_000
    sending(platform, upload_id, BIG[:came], len(BIG)).close()
    wait_until(lambda: offset(client, upload_id) == came, what="all that was sent")
    assert patch(client, upload_id, came, BIG[came:]).status_code == 204
    assert status(client, upload_id)["sha256"] == sha256(BIG)


def test_another_gateway_goes_on_when_one_is_killed(platform: Platform, other: Platform) -> None:
    upload_id = create(other.client, len(BIG))
    with sending(other, upload_id, BIG[: 2 * PART + 50_000], len(BIG)):
        wait_until(lambda: offset(platform.client, upload_id) == 2 * PART, what="two parts")
        other.kill("gateway")
    assert offset(platform.client, upload_id) == 2 * PART
    assert patch(platform.client, upload_id, 2 * PART, BIG[2 * PART :]).status_code == 204
    assert status(platform.client, upload_id)["sha256"] == sha256(BIG)


@pytest.mark.parametrize("ask", ["a client", "a job"])
def test_an_upload_whose_gateway_died_before_its_hash_is_completed_by_whoever_asks(
    platform: Platform, client: httpx.Client, kept: Kept, ask: str
) -> None:
    made = whole(client, PNG)
    kept.execute("UPDATE uploads SET sha256 = NULL, media_type = NULL WHERE id = %s", made["id"])
    if ask == "a job":
        assert stamp(platform, post(client, made["reference"]))["sha256"] == sha256(PNG)
    else:
        assert offset(client, made["id"]) == len(PNG)
    assert kept.count("SELECT count(*) FROM uploads WHERE id = %s AND sha256 = %s", made["id"], sha256(PNG)) == 1


def test_of_two_writers_at_one_place_one_wins(platform: Platform, other: Platform, storage_url: str) -> None:
    upload_id, size = create(platform.client, PART // 2), PART // 2
    bodies = [content(seed, size) for seed in range(4)]
    together = threading.Barrier(4)

    def write(number: int) -> int:
        together.wait()
        return patch((platform, other)[number % 2].client, upload_id, 0, bodies[number]).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(write, range(4)))
    assert sorted(answers) == [204, 409, 409, 409]
    assert status(platform.client, upload_id)["sha256"] == sha256(bodies[answers.index(204)])
    assert len([path for path in stored(storage_url) if upload_id in str(path)]) == 1, "nothing of the losers stays"


def test_a_connection_that_hangs_holds_nobody_up(platform: Platform, client: httpx.Client) -> None:
    body = BIG[:2_000_000]
    upload_id = create(client, len(body))
    with sending(platform, upload_id, body[:1_000_000], len(body)) as hanging:
        assert patch(client, upload_id, 0, body).status_code == 204
        hanging.sendall(body[1_000_000:])
        assert hanging.recv(100).startswith(b"HTTP/1.1 409 ")
    assert status(client, upload_id)["sha256"] == sha256(body)


@pytest.mark.hostile("U")
@pytest.mark.parametrize("at", [0, 4, 6, 10**15])
def test_bytes_that_do_not_follow_are_refused(client: httpx.Client, at: int) -> None:
    upload_id = create(client, 10)
    patch(client, upload_id, 0, b"12345")
    answer = patch(client, upload_id, at, b"67890")
    assert (answer.status_code, answer.json()["error"]) == (409, "offset_mismatch")
    assert (answer.json()["details"]["field"], answer.headers["upload-offset"]) == ("Upload-Offset", "5")
    assert offset(client, upload_id) == 5


@pytest.mark.hostile("U")
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_bytes_that_are_not_what_their_checksum_says_do_not_count(
    client: httpx.Client, storage_url: str, algorithm: str
) -> None:
    upload_id = create(client, len(BIG))
    answer = patch(client, upload_id, 0, BIG, **{"Upload-Checksum": checksum(BIG[:-1], algorithm)})
    assert (answer.status_code, answer.json()["error"]) == (460, "checksum_mismatch")
    assert answer.json()["title"] == "Checksum Mismatch"
    assert offset(client, upload_id) == 0
    assert [path for path in stored(storage_url) if upload_id in str(path)] == []
    assert patch(client, upload_id, 0, BIG, **{"Upload-Checksum": checksum(BIG, algorithm)}).status_code == 204
    assert status(client, upload_id)["sha256"] == sha256(BIG)
    whole_file = client.post("/uploads", content=PNG, headers={"Upload-Checksum": checksum(JPEG)})
    assert whole_file.status_code == 460
    assert len(client.get("/uploads").json()["uploads"]) == 1


@pytest.mark.hostile("U")
def test_bytes_that_cannot_be_checked_any_more_do_not_count(platform: Platform, client: httpx.Client) -> None:
    """The rest of them, and so their checksum, never came."""
    body, upload_id = BIG[:1_000_000], create(client, len(BIG))
    before = told(client, 400)
    checked = {"Upload-Checksum": checksum(body)}
    with sending(platform, upload_id, body, len(body) + 1, **checked):
        pass
    wait_until(lambda: told(client, 400) > before, what="the end of the request")
    assert offset(client, upload_id) == 0


def told(client: httpx.Client, code: int) -> float:
    """How many PATCHes were answered so."""
    text = client.get("/metrics", headers={"Accept": "text/plain"}).text
    name = f'atelier_http_requests_total{{method="PATCH",route="/uploads/{{upload_id}}",status="{code}"}} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


BAD_CREATIONS: dict[str, tuple[dict[str, str], int, str]] = {
    "a length that is none": ({"Upload-Length": "ten"}, 400, "Upload-Length"),
    "a negative length": ({"Upload-Length": "-1"}, 400, "Upload-Length"),
    "both lengths": ({"Upload-Length": "1", "Upload-Defer-Length": "1"}, 400, "Upload-Length"),
    "another deferral": ({"Upload-Defer-Length": "yes"}, 400, "Upload-Defer-Length"),
    "too long a file": ({"Upload-Length": str(MOST + 1)}, 413, "Upload-Length"),
    "metadata that is no base64": ({"Upload-Length": "1", "Upload-Metadata": "a b!"}, 400, "Upload-Metadata"),
    "metadata that names a key twice": ({"Upload-Length": "1", "Upload-Metadata": "a,a"}, 400, "Upload-Metadata"),
    "an unknown checksum": ({"Upload-Length": "1", "Upload-Checksum": "crc32 AAAA"}, 400, "Upload-Checksum"),
    "a broken checksum": ({"Upload-Length": "1", "Upload-Checksum": "sha1 A"}, 400, "Upload-Checksum"),
    "a part without its length": ({"Content-Type": OFFSET_STREAM}, 400, "Upload-Length"),
    "nothing at all": ({}, 400, "body"),
}


@pytest.mark.hostile("U")
@pytest.mark.parametrize("name", BAD_CREATIONS)
def test_a_bad_creation_names_the_header_and_leaves_nothing(client: httpx.Client, name: str) -> None:
    headers, code, field = BAD_CREATIONS[name]
    answer = client.post("/uploads", headers=TUS | headers)
    assert (answer.status_code, answer.json()["details"]["field"]) == (code, field), answer.text
    assert client.get("/uploads").json() == {"uploads": [], "next": None}


FORM_PARTS = {
    "no file": (form(), "file"),
    "a text": (form(part("file", b"text")), "file"),
    "another field": (form(part("picture", PNG, "a.png")), "picture"),
    "two files": (form(part("file", PNG, "a.png"), part("file", PNG, "b.png")), "body"),
    "an empty file": (form(part("file", b"", "a.png")), "file"),
    "a form without its end": (form(part("file", PNG, "a.png"))[:-6], "body"),
    "no boundary at all": (PNG, "body"),
}


@pytest.mark.hostile("U")
@pytest.mark.parametrize("name", FORM_PARTS)
def test_a_form_that_is_no_one_file_is_refused_and_leaves_nothing(
    client: httpx.Client, gone: Callable[[], None], name: str
) -> None:
    body, field = FORM_PARTS[name]
    answer = client.post("/uploads", content=body, headers={"Content-Type": MULTIPART})
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field), answer.text
    assert client.get("/uploads").json()["uploads"] == []
    gone()


@pytest.mark.hostile("U")
@pytest.mark.parametrize("way", WAYS)
def test_too_large_a_file_is_refused_and_leaves_nothing(
    client: httpx.Client, gone: Callable[[], None], way: str
) -> None:
    answer = WAYS[way](client, bytes(MOST + 20_000))
    assert (answer.status_code, answer.json()["details"]["limit"]) == (413, MOST)
    assert client.get("/uploads").json()["uploads"] == []
    gone()


@pytest.mark.hostile("U")
def test_more_bytes_than_were_announced_are_refused(client: httpx.Client) -> None:
    upload_id = create(client, 10)
    for body in (b"12345678901", in_pieces(b"12345678901")):
        answer = patch(client, upload_id, 0, body)
        assert (answer.status_code, answer.json()["details"]["limit"]) == (413, 10)
    assert offset(client, upload_id) == 0


@pytest.mark.hostile("U")
def test_a_client_with_another_protocol_or_type_is_told_so(client: httpx.Client) -> None:
    upload_id = create(client, 10)
    answer = patch(client, upload_id, 0, b"1", **{"Tus-Resumable": "0.2.2"})
    assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")
    answer = patch(client, upload_id, 0, b"1", **{"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["accept"]) == (415, OFFSET_STREAM)
    answer = client.patch(f"/uploads/{upload_id}", content=b"1", headers={"Content-Type": OFFSET_STREAM})
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, "Upload-Offset")
    assert offset(client, upload_id) == 0


def test_options_tell_what_is_spoken(client: httpx.Client) -> None:
    for path in ("/uploads", f"/uploads/{UNKNOWN}"):
        answer = client.options(path)
        assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")
        assert answer.headers["tus-max-size"] == str(MOST)
        assert {"creation", "checksum", "termination", "expiration"} <= set(answer.headers["tus-extension"].split(","))
        assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")


def test_clients_that_only_have_post_say_the_method_by_a_header(client: httpx.Client) -> None:
    upload_id = create(client, 5)
    headers = {"Upload-Offset": "0", "Content-Type": OFFSET_STREAM, "X-HTTP-Method-Override": "PATCH"}
    assert client.post(f"/uploads/{upload_id}", content=b"12345", headers=headers).status_code == 204
    assert status(client, upload_id)["state"] == "complete"
    assert client.post(f"/uploads/{upload_id}").json()["details"]["field"] == "X-HTTP-Method-Override"
    assert client.post(f"/uploads/{upload_id}", headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert client.get(f"/uploads/{upload_id}").status_code == 404


def test_unfinished_uploads_are_limited_exactly(client: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: client.post("/uploads", headers=TUS | {"Upload-Length": "9"}), range(2 * MOST_UNFINISHED)
            )
        )
    made = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(made), len(refused)) == (MOST_UNFINISHED, MOST_UNFINISHED)
    assert {answer.json()["error"] for answer in refused} == {"too_many_uploads"}
    assert client.delete(made[0].headers["location"]).status_code == 204
    assert client.post("/uploads", headers=TUS | {"Upload-Length": "9"}).status_code == 201


def test_the_bytes_of_all_uploads_are_limited(client: httpx.Client) -> None:
    first, _ = create(client, MOST), create(client, MOST)
    answer = client.post("/uploads", headers=TUS | {"Upload-Length": str(MOST)})
    assert (answer.status_code, answer.json()["error"]) == (413, "upload_quota")
    assert answer.json()["details"] == {"field": "Upload-Length", "limit": MOST_TOGETHER, "current": 2 * MOST}
    client.delete(f"/uploads/{first}")
    create(client, MOST)


def test_equal_files_are_kept_once_and_each_can_go(
    platform: Platform, client: httpx.Client, kept: Kept, storage_url: str, gone: Callable[[], None]
) -> None:
    gone()
    picture = long_picture(MAX_PICTURE)
    first = whole(client, picture)
    files = stored(storage_url)
    second = whole(client, picture)
    third = create(client, len(picture))
    assert patch(client, third, 0, picture[:1000]).status_code == 204
    assert patch(client, third, 1000, picture[1000:]).status_code == 204
    assert len({first["id"], second["id"], third}) == 3
    assert stored(storage_url) == files
    found = client.get("/uploads", params={"sha256": sha256(picture)}).json()["uploads"]
    assert [upload["id"] for upload in found] == [third, second["id"], first["id"]]
    assert client.delete(f"/uploads/{first['id']}").status_code == 204
    assert post(client, first["reference"]).status_code == 400
    for reference in (second["reference"], f"upload:{third}"):
        assert stamp(platform, post(client, reference))["sha256"] == sha256(picture)
    client.delete(f"/uploads/{second['id']}")
    wait_until(lambda: not waits_for_purge(kept, second["id"]), what="the end of the second")
    assert stored(storage_url) == files
    assert stamp(platform, post(client, f"upload:{third}"))["sha256"] == sha256(picture)
    client.delete(f"/uploads/{third}")
    gone()
    wait_until(lambda: not waits_for_purge(kept, first["id"]), what="the end of the first, which kept the bytes")


def waits_for_purge(kept: Kept, upload_id: str) -> bool:
    """Whether it is deleted, and its row is still there."""
    return bool(kept.count("SELECT count(*) FROM uploads WHERE id = %s AND deleted_at IS NOT NULL", upload_id))


def test_equal_files_count_once(client: httpx.Client) -> None:
    for _ in range(4):
        whole(client, bytes(MOST))


def test_equal_files_of_different_owners_share_nothing(
    client: httpx.Client, kept: Kept, storage_url: str, gone: Callable[[], None]
) -> None:
    gone()  # what other tests left
    first = whole(client, BIG)
    files = stored(storage_url)
    kept.execute("UPDATE uploads SET owner = 'somebody-else' WHERE id = %s", first["id"])
    second = whole(client, BIG)
    assert set(stored(storage_url)) > set(files)
    assert client.get("/uploads", params={"sha256": sha256(BIG)}).json()["uploads"] == [second]


@pytest.mark.parametrize("complete", [True, False])
def test_what_is_past_its_time_goes_with_its_bytes(
    client: httpx.Client, kept: Kept, gone: Callable[[], None], complete: bool
) -> None:
    if complete:
        upload_id = whole(client, PNG)["id"]
    else:
        upload_id = create(client, len(PNG))
        patch(client, upload_id, 0, PNG[:100])
    kept.execute("UPDATE uploads SET expires_at = now() - interval '1 s' WHERE id = %s", upload_id)
    assert client.get(f"/uploads/{upload_id}").status_code == 404
    assert patch(client, upload_id, 100, PNG[100:]).status_code == 404
    assert post(client, f"upload:{upload_id}").json()["message"] == NO_UPLOAD
    gone()
    wait_until(lambda: not waits_for_purge(kept, upload_id), what="the end of its row")


def test_use_prolongs_the_life_of_an_upload(client: httpx.Client, kept: Kept) -> None:
    made = whole(client, PNG)
    kept.execute("UPDATE uploads SET expires_at = now() + interval '1 hour' WHERE id = %s", made["id"])
    assert post(client, made["reference"]).status_code == 202
    assert status(client, made["id"])["expires_at"] > made["expires_at"]


@pytest.mark.hostile("U")
def test_a_foreign_upload_is_an_unknown_one(client: httpx.Client, kept: Kept) -> None:
    complete, unfinished = whole(client, PNG)["id"], create(client, 5)
    kept.execute("UPDATE uploads SET owner = 'somebody-else' WHERE id IN (%s, %s)", complete, unfinished)

    def answers(upload_id: str) -> list[Any]:
        made = [client.get(f"/uploads/{upload_id}"), client.delete(f"/uploads/{upload_id}")]
        made += [patch(client, upload_id, 0, b"12345"), post(client, f"upload:{upload_id}")]
        heads = client.head(f"/uploads/{upload_id}")
        return [heads.status_code, "upload-offset" in heads.headers] + [
            (answer.status_code, {**answer.json(), "request_id": ""}) for answer in made
        ]

    assert answers(complete) == answers(unfinished) == answers(UNKNOWN) == answers("no-id")
    assert client.get("/uploads").json()["uploads"] == []


@pytest.mark.parametrize("body", ["json", "form"])
def test_a_job_uses_an_upload_and_outlives_it(
    platform: Platform, client: httpx.Client, kept: Kept, gone: Callable[[], None], body: str
) -> None:
    made = client.post("/uploads", files={"file": ("sun.png", PNG)}).json()
    if body == "json":
        answer = post(client, made["reference"], steps=20, step_seconds=0.05)
    else:
        text = form(part("picture", made["reference"].encode()), config(b'{"steps": 20, "step_seconds": 0.05}'))
        answer = client.post(STAMP, content=text, headers={"Content-Type": MULTIPART})
    assert client.delete(f"/uploads/{made['id']}").status_code == 204
    gone()
    found = stamp(platform, answer)
    assert found["sha256"] == sha256(PNG)
    described = {"name": "sun.png", "media_type": "image/png", "size": len(PNG), "sha256": sha256(PNG)}
    assert found["request"]["picture"] == described | {"source": made["reference"]}
    assert [file.read_bytes() for file in kept.files(answer.json()["job_id"])] == [PNG]
    assert client.get(f"/results/{answer.json()['job_id']}").status_code == 200, "its manifest tells the source"


@pytest.mark.hostile("U")
def test_an_upload_must_be_a_file_of_the_field(client: httpx.Client, kept: Kept) -> None:
    unfinished, text = create(client, 10), whole(client, b"Dear reader, I am no picture.")
    large, before = whole(client, long_picture(MAX_PICTURE + 1)), kept.snapshot()
    for reference, code, message in (
        (f"upload:{unfinished}", 400, NO_UPLOAD),
        ("upload:", 400, NO_UPLOAD),
        (text["reference"], 400, "Invalid picture: the file is none of image/png, image/jpeg, image/webp."),
        (large["reference"], 413, f"picture is larger than {MAX_PICTURE} bytes."),
    ):
        answer = post(client, reference)
        assert (answer.status_code, answer.json()["message"]) == (code, message)
        assert answer.json()["details"]["field"] == "picture"
    assert kept.snapshot() == before


def test_one_key_and_upload_make_one_job_whatever_becomes_of_the_upload(
    platform: Platform, client: httpx.Client, kept: Kept
) -> None:
    one, two = whole(client, PNG), whole(client, JPEG)
    key = {"Idempotency-Key": f"upload-{one['id']}"}
    first = post(client, one["reference"], key)
    stamp(platform, first)
    before = kept.snapshot()
    assert post(client, two["reference"], key).status_code == 422
    assert client.delete(f"/uploads/{one['id']}").status_code == 204
    again = post(client, one["reference"], key)
    assert (again.json()["job_id"], again.headers["idempotent-replayed"]) == (first.json()["job_id"], "true")
    assert post(client, one["reference"], key, say="other").json()["message"] == NO_UPLOAD
    assert post(client, one["reference"]).json()["message"] == NO_UPLOAD
    assert kept.snapshot() == before


def test_pages_lead_through_all_uploads(client: httpx.Client) -> None:
    made = [whole(client, content(seed, 10))["id"] for seed in range(5)]
    seen, before = [], None
    while True:
        page = client.get("/uploads", params={"limit": 2} | ({"before": before} if before else {})).json()
        seen += [upload["id"] for upload in page["uploads"]]
        before = page["next"]
        if before is None:
            break
    assert seen == made[::-1]
    assert client.get("/uploads", params={"before": "x"}).json()["details"]["field"] == "before"
    assert client.get("/uploads", params={"sha256": "x"}).json()["details"]["field"] == "sha256"


@pytest.mark.hostile("U")
def test_an_upload_of_too_many_parts_is_refused(client: httpx.Client, kept: Kept) -> None:
    upload_id = create(client, 10)
    kept.execute("UPDATE uploads SET parts = 1000 WHERE id = %s", upload_id)
    answer = patch(client, upload_id, 0, b"1")
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, "Content-Length")


@pytest.mark.parametrize("block", re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL), ids=["one", "parts"])
def test_the_commands_of_the_page_work(platform: Platform, tmp_path: Path, block: str) -> None:
    body = long_picture(2 * PART + 7)
    (tmp_path / "painting.jpg").write_bytes(body)
    environment = {**os.environ, "A": f"http://127.0.0.1:{platform.port}"}
    command = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f'"state": "complete", "size": {len(body)}') == 2, done.stdout
    assert done.stdout.count(sha256(body)) == 2


def memory(platform: Platform) -> int:
    """The most bytes that the gateway has held so far."""
    lines = Path(f"/proc/{platform.processes['gateway'].pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize("way", ["a form", "the body", "parts"])
def test_a_large_file_costs_no_more_memory_than_a_small_one(other: Platform, way: str) -> None:
    client = other.client
    whole(client, PNG)
    client.post("/uploads", files={"file": PNG})
    before = memory(other)
    if way == "parts":
        upload_id = create(client, MOST)
        for _ in range(2):
            patch(client, upload_id, offset(client, upload_id), bytes(MOST // 2))
        assert status(client, upload_id)["state"] == "complete"
    else:
        for _ in range(3):
            assert WAYS[way](client, bytes(MOST - 1)).status_code == 201
    assert memory(other) - before < MOST
