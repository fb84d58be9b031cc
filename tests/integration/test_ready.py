"""GET /ready: whether requests can be accepted, whatever it is that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg2
import pytest

from services.gateway.app import make_app
from shared.settings import Settings
from tests.faults.proxy import Link, Network
from tests.integration.test_accounts import execute
from tests.integration.test_waiting import RUNNING
from tests.platform import Platform
from workers.families import families


@pytest.fixture(scope="module")
def links(database_url: str, redis_url: str) -> Iterator[tuple[Link, Link]]:
    """The gateway's ways to Postgres and to Redis."""
    with closing(Network()) as network:
        yield network.link(urlsplit(database_url).port or 0), network.link(urlsplit(redis_url).port or 0)


def through(link: Link, url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{link.port}"))


@contextmanager
def locked(database_url: str) -> Iterator[None]:
    """Somebody holds the table of jobs."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE jobs")
        yield


def test_health_tells_of_tables_that_are_held(platform: Platform, database_url: str) -> None:
    with closing(psycopg2.connect(database_url)) as operator, operator.cursor() as cursor:
        cursor.execute("LOCK TABLE workers")
        answer = platform.client.get("/health")
    assert (answer.status_code, answer.json()["healthy"]) == (200, False)
    assert not answer.json()["checks"]["database"]["ok"]


def test_it_tells_what_is_away(database_url: str, redis_url: str, storage_url: str, links: tuple[Link, Link]) -> None:
    postgres, redis = links
    settings = Settings(
        database_url=through(postgres, database_url),
        redis_url=through(redis, redis_url),
        storage_url=storage_url,
        allow_data_loss=True,
    )
    app = make_app(settings, families())

    async def ready(client: httpx.AsyncClient) -> tuple[int, list[str]]:
        answer = await client.get("/ready")
        told = answer.json()
        checks = told["checks"] if answer.status_code == 200 else told["details"]["checks"]
        assert answer.status_code == 200 or int(answer.headers["retry-after"]) > 0
        return answer.status_code, [name for name, check in checks.items() if not check["ok"]]

    async def work() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            assert await ready(client) == (200, [])
            redis.refuse()
            assert await ready(client) == (200, ["redis"]), "what needs Redis goes on, more slowly"
            assert (await client.get("/health")).json()["healthy"] is False
            redis.open()
            postgres.refuse()
            assert await ready(client) == (503, ["database"])
            assert (await client.get("/jobs")).status_code == 503
            postgres.open()
            assert await ready(client) == (200, [])
            with locked(database_url):
                assert await ready(client) == (503, ["database"])
            assert await ready(client) == (200, [])
            app.state.gateway.draining = True
            assert await ready(client) == (503, [])

    asyncio.run(work())


def test_a_database_that_takes_no_writes_takes_no_jobs(database_url: str, redis_url: str, storage_url: str) -> None:
    """As a standby does, to which a service's name points after a failover."""
    url = f"{database_url}?default_transaction_read_only=on"
    app = make_app(
        Settings(database_url=url, redis_url=redis_url, storage_url=storage_url, allow_data_loss=True), families()
    )

    async def work() -> None:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            assert (await client.post("/toys/play", json={})).status_code == 503
            ready = await client.get("/ready")
            assert ready.status_code == 503
            assert "no writes" in ready.json()["details"]["checks"]["database"]["error"]
            assert (await client.get("/health")).json()["status"] == "unhealthy"

    asyncio.run(work())


def test_a_redis_that_is_silent_holds_nobody_up(
    environment: dict[str, str], links: tuple[Link, Link], tmp_path: Path
) -> None:
    _, redis = links
    platform = Platform(environment | {"REDIS_URL": through(redis, environment["REDIS_URL"])}, tmp_path)
    try:
        job_id = platform.start("gateway").submit()
        execute(environment, RUNNING, job_id)
        assert platform.status(job_id)["status"] == "running"
        redis.swallow()
        assert platform.client.get(f"/status/{job_id}").json()["status"] == "running"
        assert platform.client.post(f"/jobs/{job_id}/cancel").status_code == 202
    finally:
        redis.open()
        platform.close()
