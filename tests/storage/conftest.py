"""Each store, empty, for one test: a folder, and a fresh prefix in a bucket of a real S3-protocol server."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from swift_server import BUCKET, KEY, REGION, USER, SwiftServer, program

from shared.storage.interface import Storage
from shared.storage.local import LocalStorage
from shared.storage.s3 import S3Storage


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """The server, started once; without Swift a laptop skips and CI fails."""
    if not program("swift-proxy-server"):
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse("OpenStack Swift is not installed: pip install -e .[test]")
    folder = tmp_path_factory.mktemp("swift")
    server = SwiftServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def credentials() -> Iterator[None]:
    """Swift's user in the standard environment, and nothing of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", USER)
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(scope="session")
def s3_client(swift: SwiftServer, credentials: None) -> Iterator[Any]:
    """A plain boto3 client, to make the bucket and to look behind the store."""
    client = boto3.client("s3", endpoint_url=swift.url, region_name=REGION)
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


@pytest.fixture
def s3_url(s3_client: Any) -> str:
    """A fresh prefix in the bucket."""
    return f"s3://{BUCKET}/tests/{uuid.uuid4().hex}"


@pytest.fixture
def s3(swift: SwiftServer, s3_url: str) -> Iterator[S3Storage]:
    store = S3Storage(BUCKET, s3_url.removeprefix(f"s3://{BUCKET}/"), swift.url, REGION)
    yield store
    store.close()


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest) -> Storage:
    """Either side; a test that takes this must hold for both."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def open_files() -> Callable[[], int]:
    """How many descriptors this process holds now."""
    return lambda: len(list(Path("/proc/self/fd").iterdir()))
