"""Requests are counted for their owner over all gateways, and the answers tell what is left."""

from __future__ import annotations

import asyncio
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

from services.gateway.limits.limiter import Limiter
from services.gateway.limits.tiers import Allowance, Policy
from services.local.processes import usable_port
from services.local.redis import EmbeddedRedis
from tests.accounts import AUTH, Person, register
from tests.integration.test_accounts import execute
from tests.platform import ROOT, Platform, two_gateways, wait_until

LIMITED = AUTH | {"ATELIER_RATE_LIMITS": "true"}
names = (f"limited{n}" for n in range(1000))


@pytest.fixture(scope="module")
def gateways(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Platform]]:
    with two_gateways(environment | LIMITED, tmp_path_factory.mktemp) as platforms:
        yield platforms


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


def test_a_key_has_a_limit_of_its_own_besides_its_accounts(gateways: list[Platform], person: Person) -> None:
    made = person.key(requests_per_minute=3, requests_per_day=50)
    assert made["key_info"]["requests_per_minute"] == 3
    key = {"X-API-Key": made["api_key"]}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: submit(gateways[n % 2], key), range(6)))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 3
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["details"]["policy"] == "key-minute"
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("3", "0")
    assert refused.headers["ratelimit-policy"] == (
        '"key-minute";q=3;w=60, "key-day";q=50;w=86400, "minute";q=10;w=60, "day";q=100;w=86400'
    )
    session = submit(gateways[0], person.headers)
    assert session.status_code == 202, "what the key may not ask costs its account nothing"
    assert session.headers["x-ratelimit-remaining"] == "6"
    listed = gateways[0].client.get("/auth/api-keys", headers=person.headers).json()["api_keys"]
    assert [(each["requests_per_minute"], each["requests_per_day"]) for each in listed] == [(3, 50)]


def test_answers_to_a_key_tell_the_tightest_limit(gateways: list[Platform], person: Person) -> None:
    key = {"X-API-Key": person.key(requests_per_minute=8)["api_key"]}
    assert submit(gateways[0], key).headers["x-ratelimit-limit"] == "8"
    for _ in range(3):
        submit(gateways[0], person.headers)  # of ten, six are left; of the key's eight, seven
    told = submit(gateways[1], key)
    assert (told.headers["x-ratelimit-limit"], told.headers["x-ratelimit-remaining"]) == ("10", "5")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"requests_per_minute": 11}, "requests_per_minute"),
        ({"requests_per_day": 101}, "requests_per_day"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"requests_per_day": -1}, "requests_per_day"),
        ({"requests_per_day": 1.5}, "requests_per_day"),
        ({"requests_per_minute": True}, "requests_per_minute"),
    ],
)
def test_a_key_cannot_have_more_than_its_account(
    gateways: list[Platform], person: Person, asked: dict[str, Any], field: str
) -> None:
    refused = gateways[0].client.post("/auth/generate-key", json={"name": "k", **asked}, headers=person.headers)
    assert (refused.status_code, refused.json()["details"]["field"]) == (400, field)
    assert gateways[0].client.get("/auth/api-keys", headers=person.headers).json()["api_keys"] == []


def test_a_limit_that_nobody_would_count_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    platform = Platform(environment | AUTH, tmp_path)
    try:
        platform.start("gateway")
        execute(environment, "DELETE FROM attempts")
        person = register(platform.client, next(names))
        asked = {"name": "k", "requests_per_day": 5}
        refused = platform.client.post("/auth/generate-key", json=asked, headers=person.headers)
        assert (refused.status_code, refused.json()["details"]["field"]) == (400, "requests_per_day")
    finally:
        platform.close()


def test_a_limiter_that_is_closed_leaves_no_connection_to_redis(environment: dict[str, str]) -> None:
    def connections() -> int:
        return sum(each["name"] == "closing" for each in client.client_list())

    async def count() -> None:
        limiter = Limiter(f"{environment['REDIS_URL']}?client_name=closing")
        await limiter.spend(Allowance("someone", (Policy("minute", 10, 60),)))
        assert connections() > 0
        await limiter.close()

    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        asyncio.run(count())
        wait_until(lambda: connections() == 0)


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
