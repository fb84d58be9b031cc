"""From an address to a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.storage.local import LocalStorage
from shared.storage.open import open_storage
from shared.storage.s3 import S3Storage


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    store = open_storage(folder.as_uri())
    assert isinstance(store, LocalStorage)
    store.put("a/b", [b"x"], "text/plain")
    assert (folder / "a/b").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("s3://bucket", "a/b"),
        ("s3://bucket/", "a/b"),
        ("s3://bucket/some/prefix", "some/prefix/a/b"),
        ("s3://bucket/some/prefix/", "some/prefix/a/b"),
    ],
)
def test_a_bucket(url: str, key: str) -> None:
    store = open_storage(url, "http://127.0.0.1:1", "eu-central-1")
    assert isinstance(store, S3Storage)
    assert store._where("a/b") == {"Bucket": "bucket", "Key": key}
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/data",
        "data",
        "file://host/data",
        "file:data",
        "file:///data#1",
        "s3:///prefix",
        "s3://bucket/a/../b",
        "s3://bucket/a?b",
        "s3://key:secret@bucket/prefix",
        "gs://bucket",
        "http://host/bucket",
    ],
)
def test_other_addresses_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ValueError, match=r"STORAGE_URL|not a storage key") as raised:
        open_storage(url)
    assert "secret" not in str(raised.value)


def test_local_storage_does_not_pay_for_boto3() -> None:
    program = "import sys; from shared.storage.open import open_storage; open_storage('file:///x'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "shared.storage.local" in modules
    assert not {"boto3", "botocore", "shared.storage.s3"} & set(modules)
