"""Uploads in every kind of store, through a gateway whose inside is within reach."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from swift_server import SwiftServer

from services.coordinator.janitor import Janitor
from services.gateway.app import make_app
from services.gateway.state import GatewayState
from services.gateway.uploads.receiver import PART
from shared.database import open_database
from shared.settings import Settings
from shared.storage.interface import Storage, StorageError
from tests.forms import PNG
from tests.uploads import BIG, OFFSET_STREAM, TUS, checksum, sha256
from workers.families import families

Work = Callable[[httpx.AsyncClient, GatewayState], Awaitable[Any]]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def settings(request: pytest.FixtureRequest, tmp_path: Path, environment: dict[str, str]) -> Settings:
    """Of a gateway on an empty store of each kind."""
    addresses = {name.lower(): environment[name] for name in ("DATABASE_URL", "REDIS_URL")}
    addresses["allow_data_loss"] = "true"  # of the tests' own Postgres
    if request.param == "local":
        return Settings(**addresses, storage_url=tmp_path.as_uri(), purge_grace_seconds=0.001)  # type: ignore[arg-type]
    swift: SwiftServer = request.getfixturevalue("swift")
    store = {"storage_url": request.getfixturevalue("s3_url"), "s3_endpoint_url": swift.url}
    return Settings(**addresses, **store, purge_grace_seconds=0.001)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _empty(database_url: str) -> None:
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE uploads, upload_parts, jobs CASCADE")
    connection.close()


def with_gateway(settings: Settings, work: Work) -> Any:
    """What the work returns."""
    app = make_app(settings, families())

    async def run() -> Any:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://here", headers=TUS, timeout=60) as client,
        ):
            return await work(client, app.state.gateway)

    with ThreadPoolExecutor(1) as pool:  # in the main thread it would take the signals
        return pool.submit(asyncio.run, run()).result()


async def in_parts(client: httpx.AsyncClient, body: bytes, *sizes: int, **headers: str) -> str:
    """The id of an upload of these bytes."""
    made = await client.post("/uploads", headers={"Upload-Length": str(len(body))})
    address, at = made.headers["location"], 0
    for size in (*sizes, len(body) - sum(sizes)):
        told = {"Upload-Offset": str(at), "Content-Type": OFFSET_STREAM} | headers
        answer = await client.patch(address, content=body[at : at + size], headers=told)
        assert answer.status_code == 204, answer.text
        at += size
    return str(made.json()["id"])


def keys(storage: Storage) -> list[str]:
    return sorted(storage.list("uploads/anonymous"))


def test_an_upload_is_kept_once_used_and_purged(settings: Settings) -> None:
    picture = PNG + BIG[:2_000_000]

    async def work(client: httpx.AsyncClient, state: GatewayState) -> None:
        first = await in_parts(client, picture, 3, 1_000_000)
        kept = keys(state.storage)
        assert len(kept) == 3
        second = (await client.post("/uploads", content=picture)).json()
        assert (second["state"], second["sha256"]) == ("complete", sha256(picture))
        assert keys(state.storage) == kept
        assert (await client.delete(f"/uploads/{first}")).status_code == 204
        janitor = Janitor(settings, engine, state.storage)
        await asyncio.to_thread(janitor.round)
        assert keys(state.storage) == kept, "the second shares them"
        job = await client.post("/toys/stamp", json={"picture": second["reference"]})
        assert job.status_code == 202, job.text
        assert (await client.delete(f"/uploads/{second['id']}")).status_code == 204
        for _ in range(2):  # the one that shared, then the one that kept
            await asyncio.to_thread(janitor.round)
        assert keys(state.storage) == []
        (copy,) = state.storage.list("results/anonymous")
        assert b"".join(state.storage.read(copy)) == picture

    engine = open_database(settings.database_url)
    try:
        with_gateway(settings, work)
    finally:
        engine.dispose()


def test_a_wrong_checksum_leaves_nothing(settings: Settings) -> None:
    async def work(client: httpx.AsyncClient, state: GatewayState) -> None:
        made = await client.post("/uploads", headers={"Upload-Length": str(len(BIG))})
        told = {"Upload-Offset": "0", "Content-Type": OFFSET_STREAM, "Upload-Checksum": checksum(b"")}
        assert (await client.patch(made.headers["location"], content=BIG, headers=told)).status_code == 460
        assert keys(state.storage) == []
        await in_parts(client, BIG, **{"Upload-Checksum": checksum(BIG)})
        assert len(keys(state.storage)) == 3

    with_gateway(settings, work)


def test_a_store_that_fails_in_the_middle_loses_no_more_than_a_part(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: httpx.AsyncClient, state: GatewayState) -> None:
        made = await client.post("/uploads", headers={"Upload-Length": str(len(BIG))})
        address, put = made.headers["location"], state.storage.put

        def failing(key: str, chunks: Any, media_type: str) -> Any:
            if f"/{PART}-" in key:
                raise StorageError("the store is full")
            return put(key, chunks, media_type)

        with monkeypatch.context() as patch:
            patch.setattr(type(state.storage), "put", lambda _, *values: failing(*values))
            told = {"Upload-Offset": "0", "Content-Type": OFFSET_STREAM}
            answer = await client.patch(address, content=BIG, headers=told)
        assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")
        assert (await client.head(address)).headers["upload-offset"] == str(PART)
        told = {"Upload-Offset": str(PART), "Content-Type": OFFSET_STREAM}
        assert (await client.patch(address, content=BIG[PART:], headers=told)).status_code == 204
        assert (await client.get(address)).json()["sha256"] == sha256(BIG)

    with_gateway(settings, work)


def test_an_upload_that_could_not_be_hashed_is_completed_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: httpx.AsyncClient, state: GatewayState) -> None:
        upload_id = await in_parts(client, BIG[:1000], 500, 400)

        def away(*_: Any) -> Any:
            raise StorageError("the store is away")

        with monkeypatch.context() as patch:
            patch.setattr(type(state.storage), "read", away)
            told = {"Upload-Offset": "900", "Content-Type": OFFSET_STREAM}
            other = await client.post("/uploads", headers={"Upload-Length": "1000"})
            for start, end in ((0, 900), (900, 1000)):
                told["Upload-Offset"] = str(start)
                answer = await client.patch(other.headers["location"], content=BIG[start:end], headers=told)
            assert answer.status_code == 503
            assert (await client.head(other.headers["location"])).status_code == 503
        assert (await client.head(other.headers["location"])).headers["upload-offset"] == "1000"
        told = (await client.get(other.headers["location"])).json()
        assert (told["state"], told["sha256"]) == ("complete", sha256(BIG[:1000]))
        assert (await client.get(f"/uploads/{upload_id}")).json()["sha256"] == told["sha256"]

    with_gateway(settings, work)
