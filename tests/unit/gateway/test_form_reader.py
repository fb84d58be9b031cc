"""Forms are read within limits, whatever their bytes and however these arrive."""

from __future__ import annotations

import asyncio
import encodings.aliases
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from services.gateway.app import make_app
from services.gateway.jobs.bodies import read_input
from services.gateway.jobs.files import RequestFiles, receive
from services.gateway.jobs.forms import read_form
from shared.errors import AtelierError, PayloadTooLarge, Unavailable, UnsupportedMediaType, ValidationFailed
from shared.ids import new_id
from shared.jobs.artifacts import input_key, job_prefix
from shared.settings import get_settings
from shared.storage.local import LocalStorage
from tests.forms import GOOD, JPEG, MULTIPART, PNG, REFUSED, WEBP, config, form, long_picture, picture
from tests.toys.family import MAX_PICTURE, TOY
from workers.families import families

STAMP = TOY.operation("toy.stamp")
# What the form itself is not to blame for is found once it is read.
FOUND_LATER = {
    "no file",
    "no parts",
    "a value that the operation does not take",
    "a key that the operation does not have",
}
BROKEN = [name for name, refused in REFUSED.items() if name not in FOUND_LATER and refused.status != 415]


class Upload:
    """A request whose body arrives in pieces; `taken` counts them."""

    def __init__(self, body: bytes, piece: int, content_type: str = MULTIPART, *, ends: bool = True) -> None:
        self._pieces = [body[start : start + piece] for start in range(0, len(body), piece)] or [b""]
        self._ends, self.taken = ends, 0
        headers = [(b"content-type", content_type.encode())]
        self.request = Request({"type": "http", "method": "POST", "headers": headers}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        if self.taken == len(self._pieces):
            return {"type": "http.disconnect"}
        self.taken += 1
        more = self.taken < len(self._pieces) or not self._ends
        return {"type": "http.request", "body": self._pieces[self.taken - 1], "more_body": more}


@asynccontextmanager
async def reading(upload: Upload) -> AsyncIterator[tuple[dict[str, Any], RequestFiles]]:
    async with read_form(upload.request, STAMP) as body:
        yield body, receive(STAMP, body, ())


def read_body(upload: Upload) -> dict[str, Any]:
    async def read() -> dict[str, Any]:
        async with reading(upload) as (body, _):
            return body

    return asyncio.run(read())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The files behind all uploads that are made meanwhile."""
    files: list[Any] = []
    init = UploadFile.__init__

    def noted(self: UploadFile, file: Any, **values: Any) -> None:
        files.append(file)
        init(self, file, **values)

    monkeypatch.setattr(UploadFile, "__init__", noted)
    return files


@pytest.mark.parametrize("piece", [1, 7, 1000, 10**9])
def test_a_form_is_read_the_same_in_whatever_pieces_it_arrives(piece: int, opened: list[Any]) -> None:
    described = {"name": "picture.png", "media_type": "image/png", "size": len(PNG)}
    expected = {"say": "seen", "picture": described | {"sha256": hashlib.sha256(PNG).hexdigest()}}
    assert read_body(Upload(GOOD, piece)) == expected
    assert [file.closed for file in opened] == [True]


@pytest.mark.parametrize("body", [PNG, JPEG, WEBP, long_picture(MAX_PICTURE)], ids=["png", "jpeg", "webp", "largest"])
def test_the_bytes_say_what_a_file_is_whatever_the_client_says(body: bytes) -> None:
    found = read_body(Upload(form(picture(body, "x.gif", "text/html")), 65536))["picture"]
    assert found["media_type"] == {PNG[:4]: "image/png", JPEG[:4]: "image/jpeg", WEBP[:4]: "image/webp"}[body[:4]]
    assert (found["size"], found["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Žofie 1.png", "Žofie 1.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\\\me\\\\a.png", "a.png"),
        ("a\x07\u202e\u2028b.png", "ab.png"),
        ("n" * 300, "n" * 200),
        ("", "picture"),
        ("/", "picture"),
        ("\x01", "picture"),
    ],
)
def test_a_file_keeps_the_last_part_of_its_name(sent: str, kept: str) -> None:
    assert read_body(Upload(form(picture(PNG, sent)), 65536))["picture"]["name"] == kept


def test_the_json_may_be_left_out() -> None:
    assert set(read_body(Upload(form(picture()), 65536))) == {"picture"}


@pytest.mark.hostile("F")
@pytest.mark.parametrize("piece", [11, 65536])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_form_is_refused_by_name_and_leaves_no_file_open(name: str, piece: int, opened: list[Any]) -> None:
    refused = REFUSED[name]
    with pytest.raises(AtelierError) as caught:
        read_body(Upload(refused.body, max(piece, len(refused.body) // 5000), refused.content_type))
    assert (caught.value.status, caught.value.details.get("field")) == (refused.status, refused.field)
    assert len(caught.value.message) < 200
    assert all(file.closed for file in opened)


@pytest.mark.hostile("F")
def test_reading_ends_at_the_limit() -> None:
    upload = Upload(form(picture(bytes(10 * MAX_PICTURE))), 10_000)
    with pytest.raises(PayloadTooLarge) as caught:
        read_body(upload)
    assert upload.taken == caught.value.details["limit"] // 10_000 + 1


@pytest.mark.hostile("F")
def test_a_client_that_goes_away_leaves_no_file_open(opened: list[Any]) -> None:
    with pytest.raises(ClientDisconnect):
        read_body(Upload(GOOD[:300], 100, ends=False))
    assert [file.closed for file in opened] == [True]


@pytest.mark.hostile("F")
@pytest.mark.parametrize("content_type", ["multipart/mixed; boundary=frontier", "multipart", "text/plain"])
def test_what_is_neither_form_nor_json_is_refused(content_type: str) -> None:
    async def read() -> None:
        request = Upload(GOOD, 1000, content_type).request
        async with read_input(request, [(TOY, STAMP)], 1000, known=True):
            raise AssertionError("it was read")

    with pytest.raises(UnsupportedMediaType) as caught:
        asyncio.run(read())
    assert caught.value.headers["Accept"] == "application/json, multipart/form-data"


def outcome(upload: Upload) -> dict[str, Any] | None:
    """What was read, or None if it was refused."""
    try:
        return read_body(upload)
    except (ValidationFailed, PayloadTooLarge):
        return None


@pytest.mark.hostile("F")
@settings(deadline=None)  # a busy machine is no fault of the reader
@given(st.integers(0, len(GOOD)), st.integers(0, 40), st.binary(max_size=40), st.integers(1, 300))
def test_a_damaged_form_is_read_or_refused(start: int, removed: int, added: bytes, piece: int) -> None:
    outcome(Upload(GOOD[:start] + added + GOOD[start + removed :], piece))


@pytest.mark.hostile("F")
@settings(deadline=None)
@given(st.integers(0, len(GOOD) - len(b"--\r\n") - 1), st.integers(1, 300))
def test_no_form_is_read_in_part(end: int, piece: int) -> None:
    assert outcome(Upload(GOOD[:end], piece)) is None


@pytest.mark.parametrize("charset", sorted({*encodings.aliases.aliases.values(), "idna", "undefined", "none", "é"}))
def test_the_encoding_that_a_client_declares_changes_no_text(charset: str) -> None:
    body = form(picture(), config('{"say": "+2AA- \\\\ xn--a é"}'.encode()))
    upload = Upload(body, 1000, f"{MULTIPART}; charset={charset}")
    found = outcome(upload)
    assert found is None or found["say"] == "+2AA- \\ xn--a é"


def test_files_are_stored_as_they_came_and_let_go(tmp_path: Path, opened: list[Any]) -> None:
    storage, job_id, body = LocalStorage(tmp_path), new_id(), long_picture(MAX_PICTURE)
    key = input_key("ann", job_id, "picture")

    async def store() -> None:
        async with reading(Upload(form(picture(body)), 65536)) as (_, files):
            await files.store(storage, "ann", job_id)
            assert [file.closed for file in opened] == [True], "a client may wait long after this"
            assert list(storage.list(job_prefix("ann", job_id))) == [key]
            assert b"".join(storage.read(key)) == body
            await files.remove(storage, "ann", job_id)

    asyncio.run(store())
    assert list(storage.list("results")) == []


def test_a_store_that_does_not_work_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")

    async def store() -> None:
        async with reading(Upload(GOOD, 65536)) as (_, files):
            await files.store(LocalStorage(tmp_path / "store"), "ann", new_id())

    with pytest.raises(Unavailable) as caught:
        asyncio.run(store())
    assert int(caught.value.headers["Retry-After"]) > 0


def test_the_documentation_describes_both_bodies() -> None:
    document = make_app(get_settings(), families()).openapi()
    body, schemas = document["paths"]["/toys/stamp"]["post"]["requestBody"], document["components"]["schemas"]
    assert body["required"] is True
    assert set(body["content"]) == {"application/json", "multipart/form-data"}
    described = body["content"]["multipart/form-data"]
    schema = described["schema"]
    assert schema["required"] == ["picture"]
    assert schema["additionalProperties"] is False
    assert (schema["properties"]["picture"]["type"], schema["properties"]["picture"]["format"]) == ("string", "binary")
    assert "image/webp" in schema["properties"]["picture"]["description"]
    assert str(MAX_PICTURE) in schema["properties"]["picture"]["description"]
    assert all(set(example["value"]) <= set(schema["properties"]) for example in described["examples"].values())
    json_field = schema["properties"]["config"]
    assert json_field["contentMediaType"] == "application/json"
    fields = schemas[json_field["contentSchema"]["$ref"].rsplit("/", 1)[1]]
    assert "say" in fields["properties"]
    assert "picture" not in {*fields["properties"], *fields["required"]}, "a form that says so is refused"
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/StampInput"}
    whole = schemas["StampInput"]
    assert whole["required"] == ["picture"]
    assert whole["properties"]["picture"]["$ref"] == "#/components/schemas/FileInput"
    assert str(MAX_PICTURE) in whole["properties"]["picture"]["description"]
    assert schemas["FileInput"]["type"] == "string"
