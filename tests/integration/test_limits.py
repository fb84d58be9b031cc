"""Requests are counted for their owner over all gateways, and the answers tell what is left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from services.local.processes import usable_port
from services.local.redis import EmbeddedRedis
from tests.accounts import AUTH, Person, register
from tests.integration.test_accounts import execute
from tests.platform import ROOT, Platform

LIMITED = AUTH | {"ATELIER_RATE_LIMITS": "true"}
names = (f"limited{n}" for n in range(1000))


@pytest.fixture(scope="module")
def gateways(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Platform]]:
    platforms = [Platform(environment | LIMITED, tmp_path_factory.mktemp("logs")) for _ in range(2)]
    try:
        yield [platform.start("gateway") for platform in platforms]
    finally:
        for platform in platforms:
            platform.close()


@pytest.fixture
def person(gateways: list[Platform], environment: dict[str, str]) -> Person:
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        client.flushdb()  # all tests come from one address
    execute(environment, "DELETE FROM attempts")
    return register(gateways[0].client, next(names))


def submit(platform: Platform, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{platform.client.base_url}/toys/play", json={}, headers=headers, timeout=30)


def test_the_free_tier_is_exact_over_gateways_and_keys(gateways: list[Platform], person: Person) -> None:
    callers = [person.headers, {"X-API-Key": person.key()["api_key"]}]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: submit(gateways[n % 2], callers[n // 2 % 2]), range(16)))
    assert sorted(answer.status_code for answer in answers) == [202] * 10 + [429] * 6
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert gateways[0].client.get("/jobs", headers=person.headers).json()["jobs"]


def test_answers_tell_what_is_left(gateways: list[Platform], person: Person) -> None:
    first = submit(gateways[0], person.headers)
    assert first.headers["x-ratelimit-limit"] == "10"
    assert first.headers["x-ratelimit-remaining"] == "9"
    assert time.time() < int(first.headers["x-ratelimit-reset"]) <= time.time() + 61
    assert first.headers["ratelimit-policy"] == '"minute";q=10;w=60, "day";q=100;w=86400'
    assert first.headers["ratelimit"].startswith('"minute";r=9;t=')
    status = gateways[1].client.get(first.json()["status_url"], headers=person.headers)
    assert status.headers["x-ratelimit-remaining"] == "9"  # following a job costs nothing
    bad = gateways[0].client.post("/toys/play", json={"steps": -1}, headers=person.headers)
    assert (bad.status_code, bad.headers["x-ratelimit-remaining"]) == (400, "8")


def test_other_people_are_not_affected(gateways: list[Platform], person: Person) -> None:
    for _ in range(10):
        submit(gateways[0], person.headers)
    assert submit(gateways[0], person.headers).status_code == 429
    other = register(gateways[0].client, next(names))
    assert submit(gateways[0], other.headers).status_code == 202


def test_the_operator_gives_a_tier(gateways: list[Platform], environment: dict[str, str], person: Person) -> None:
    command = [sys.executable, "-m", "services.admin", "tier", person.name, "pro"]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
    assert submit(gateways[0], person.headers).headers["x-ratelimit-limit"] == "100"
    unknown = subprocess.run(
        [*command[:-2], "nobody", "pro"], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert (unknown.returncode, unknown.stderr.strip()) == (1, "There is no account with this name.")


def test_an_address_may_ask_a_hundred_times_a_minute(gateways: list[Platform], person: Person) -> None:
    found = [gateways[n % 2].client.get("/examples").status_code for n in range(105)]
    assert found.count(429) >= 5
    assert gateways[0].client.get("/ready").status_code == 200
    assert submit(gateways[0], person.headers).status_code == 202
    forged = gateways[0].client.get("/jobs", headers={"X-API-Key": "sk_" + "a" * 51})
    assert forged.status_code == 429  # guessing is counted too


def test_without_redis_a_gateway_counts_by_itself(
    environment: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis") / "data", port=usable_port(0))
    platform = Platform(environment | LIMITED | {"REDIS_URL": server.start()}, tmp_path)
    try:
        platform.start("gateway")
        execute(environment, "DELETE FROM attempts")
        person = register(platform.client, next(names))
        assert submit(platform, person.headers).status_code == 202
        server.stop()
        found: list[Any] = [submit(platform, person.headers).status_code for _ in range(12)]
        assert found == [202] * 10 + [429] * 2
        assert platform.client.get("/jobs", headers=person.headers).status_code == 200
    finally:
        platform.close()
        server.stop()
