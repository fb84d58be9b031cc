"""What only a server can get wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from swift_server import BUCKET, REGION, SwiftServer

from shared.storage import s3 as s3_module
from shared.storage.interface import CHUNK, ObjectMissing, StorageError
from shared.storage.s3 import PART, S3Storage

pytestmark = pytest.mark.s3

KEY = "results/owner/job/1/0.bin"
MEDIA = "image/png"


class HalfAnObject(BaseHTTPRequestHandler):
    """A server that dies in the middle of a body."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"only this")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def dying_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), HalfAnObject) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def opened() -> Iterator[Callable[..., S3Storage]]:
    """Opens stores and closes them at the end."""
    stores: list[S3Storage] = []

    def open_one(bucket: str, prefix: str, endpoint_url: str) -> S3Storage:
        stores.append(S3Storage(bucket, prefix, endpoint_url, REGION))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def uploads(client: Any) -> list[str]:
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


def failing() -> Iterator[bytes]:
    yield bytes(PART + CHUNK)
    raise LookupError("the source broke")


@pytest.mark.parametrize("size", [10, PART + 10])
def test_the_media_type_is_kept_and_the_prefix_used(s3_client: Any, s3: S3Storage, size: int) -> None:
    s3.put(KEY, [bytes(size)], MEDIA)
    (key,) = [
        entry["Key"]
        for entry in s3_client.list_objects_v2(Bucket=BUCKET, Prefix="tests/")["Contents"]
        if entry["Key"].startswith(s3._prefix)
    ]
    assert key == f"{s3._prefix}{KEY}"
    assert s3_client.head_object(Bucket=BUCKET, Key=key)["ContentType"] == MEDIA


def test_a_failed_upload_is_aborted(s3_client: Any, s3: S3Storage) -> None:
    with pytest.raises(LookupError):
        s3.put(KEY, failing(), MEDIA)
    assert uploads(s3_client) == []


def test_a_check_leaves_nothing(s3_client: Any, s3: S3Storage) -> None:
    s3.check()
    assert uploads(s3_client) == []


def test_a_sweep_aborts_old_uploads_under_its_prefix(s3_client: Any, s3: S3Storage) -> None:
    ours, others = f"{s3._prefix}{KEY}", "elsewhere/x"
    begun = [s3_client.create_multipart_upload(Bucket=BUCKET, Key=key) for key in (ours, others)]
    s3.sweep(older_than=3600)
    assert set(uploads(s3_client)) == {ours, others}
    s3.sweep(older_than=-10)
    assert uploads(s3_client) == [others]
    s3_client.abort_multipart_upload(Bucket=BUCKET, Key=others, UploadId=begun[1]["UploadId"])


def test_delete_in_batches(s3: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "DELETE_BATCH", 2)
    for number in range(5):
        s3.put(f"a/{number}", [b"x"], MEDIA)
    s3.delete(f"a/{number}" for number in range(7))
    assert list(s3.list("a")) == []


def test_a_server_that_is_down(opened: Callable[..., S3Storage], credentials: None) -> None:
    store = opened(BUCKET, "", "http://127.0.0.1:1")
    asks: list[Callable[[], object]] = [
        store.check,
        lambda: store.put(KEY, [b"x"], MEDIA),
        lambda: store.put(KEY, [bytes(PART)], MEDIA),
        lambda: next(store.read(KEY)),
        lambda: store.size(KEY),
        lambda: store.delete([KEY]),
        lambda: list(store.list("results")),
        lambda: store.sweep(0),
    ]
    with ThreadPoolExecutor(len(asks)) as pool:
        errors = [future.exception(60) for future in [pool.submit(ask) for ask in asks]]
    assert [type(error) for error in errors] == [StorageError] * len(asks)


def test_a_server_that_dies_while_it_answers(
    opened: Callable[..., S3Storage], dying_server: str, credentials: None
) -> None:
    with pytest.raises(StorageError):
        b"".join(opened(BUCKET, "", dying_server).read(KEY))


def test_a_bucket_that_is_missing(opened: Callable[..., S3Storage], swift: SwiftServer, credentials: None) -> None:
    store = opened("nowhere", "", swift.url)
    for ask in (store.check, lambda: store.put(KEY, [b"x"], MEDIA)):
        with pytest.raises(StorageError, match=r"404|NoSuchBucket") as raised:
            ask()
        assert not isinstance(raised.value, ObjectMissing)


def test_a_wrong_secret(
    opened: Callable[..., S3Storage], swift: SwiftServer, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="403"):
        opened(BUCKET, "", swift.url).check()


def test_no_credentials(
    opened: Callable[..., S3Storage], swift: SwiftServer, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match="credentials"):
        opened(BUCKET, "", swift.url).check()
