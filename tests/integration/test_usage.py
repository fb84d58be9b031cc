"""GET /usage: an owner's own view, over two gateways."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.accounts import AUTH, Person, login, register
from tests.integration.test_accounts import execute
from tests.platform import Platform, two_gateways, wait_until

LIMITED = AUTH | {"ATELIER_RATE_LIMITS": "true", "ATELIER_FREE_STORED_BYTES": "5000", "ATELIER_MAX_LIVE_JOBS": "7"}
names = (f"spender{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def gateways(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Platform]]:
    """Two gateways, and a worker with its coordinator."""
    with two_gateways(environment | LIMITED, tmp_path_factory.mktemp) as platforms:
        platforms[1].start("coordinator")
        yield platforms


@pytest.fixture
def person(gateways: list[Platform], environment: dict[str, str]) -> Person:
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        client.flushdb()  # all tests come from one address
    execute(environment, "DELETE FROM attempts")
    return register(gateways[0].client, next(names))


def usage(platform: Platform, headers: dict[str, str], **params: str) -> dict[str, Any]:
    answer = platform.client.get("/usage", params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def play(platform: Platform, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    answer = platform.client.post("/toys/play", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def owner_of(person: Person) -> str:
    return str(person.client.get("/auth/profile", headers=person.headers).json()["user"]["id"])


def today() -> str:
    return datetime.now(UTC).date().isoformat()


DAYS = """
INSERT INTO usage_days (owner, day, family, completed, failed, gpu_seconds, produced_bytes) VALUES
    (%(owner)s, '2026-03-01', 'image', 3, 1, 12.5, 1000), (%(owner)s, '2026-03-01', 'avatar', 1, 0, 7.25, 50),
    (%(owner)s, '2026-03-02', 'image', 2, 0, 1, 10), (%(owner)s, '2026-03-04', 'image', 1, 0, 1, 1)
"""


def test_days_and_families_add_up(gateways: list[Platform], person: Person, environment: dict[str, str]) -> None:
    owner = owner_of(person)
    execute(environment, DAYS.replace("%(owner)s", f"'{owner}'"))
    execute(environment, "INSERT INTO usage_requests VALUES (%s, '2026-03-01', 9), (%s, '2026-03-03', 2)", owner, owner)
    told = usage(gateways[0], person.headers, **{"from": "2026-03-01", "to": "2026-03-03"})
    assert (told["owner"], told["from"], told["to"]) == (person.name, "2026-03-01", "2026-03-03")
    assert [day["day"] for day in told["days"]] == ["2026-03-01", "2026-03-02", "2026-03-03"]
    first, second, third = told["days"]
    assert first["jobs"] == {"completed": 4, "failed": 1, "cancelled": 0, "expired": 0}
    assert (first["requests"], first["gpu_seconds"], first["produced_bytes"]) == (9, 19.75, 1050)
    assert first["families"]["avatar"]["gpu_seconds"] == 7.25
    assert second["families"].keys() == {"image"}
    assert (third["requests"], third["families"]) == (2, {})
    totals = told["totals"]
    assert (totals["requests"], totals["gpu_seconds"], totals["produced_bytes"]) == (11, 20.75, 1060)
    assert totals["families"]["image"]["jobs"]["completed"] == 5


def test_jobs_are_told_by_final_state_when_they_end(gateways: list[Platform], person: Person) -> None:
    jobs = [play(gateways[n % 2], person.headers) for n in range(3)]
    for job in jobs[:2]:
        assert gateways[0].client.post(job["cancel_url"], headers=person.headers).status_code == 200
    told = usage(gateways[1], person.headers)
    assert told["totals"]["jobs"] == {"completed": 0, "failed": 0, "cancelled": 2, "expired": 0}
    assert [day["day"] for day in told["days"]] == [today()]
    assert told["totals"]["families"]["toy"]["jobs"]["cancelled"] == 2
    assert told["limits"]["live_jobs"] == {"used": 1, "limit": 7, "left": 6}


def test_requests_of_two_gateways_are_one_count(gateways: list[Platform], person: Person) -> None:
    for n in range(6):
        play(gateways[n % 2], person.headers)
    gateways[0].client.post("/toys/play", json={"steps": -1}, headers=person.headers)  # counted, and refused after
    told = wait_until(
        lambda: (u := usage(gateways[0], person.headers))["totals"]["requests"] == 7 and u, 30, "the other's count"
    )
    assert told["days"][0]["requests"] == 7
    for _ in range(5):
        gateways[0].client.post("/toys/play", json={}, headers=person.headers)  # two of them beyond the free tier
    assert usage(gateways[0], person.headers)["totals"]["requests"] == 10
    minute = told["limits"]["requests"][0]
    assert (minute["name"], minute["limit"], minute["left"], minute["window"]) == ("minute", 10, 3, 60)


def test_a_gateway_that_stops_brings_its_counts(
    gateways: list[Platform], person: Person, environment: dict[str, str], tmp_path: Path
) -> None:
    other = Platform(environment | LIMITED, tmp_path)
    try:
        other.start("gateway")
        for _ in range(3):
            play(other, person.headers)
        other.terminate("gateway")
    finally:
        other.close()
    assert usage(gateways[0], person.headers)["totals"]["requests"] == 3


def test_limits_tell_what_is_left(gateways: list[Platform], person: Person, environment: dict[str, str]) -> None:
    fresh = usage(gateways[0], person.headers)["limits"]
    assert fresh["stored_bytes"] == {"used": 0, "limit": 5000, "left": 5000}
    assert (fresh["gpu_seconds"]["limit"], fresh["gpu_seconds"]["left"]) == (3600, 3600)
    resets = datetime.fromisoformat(fresh["gpu_seconds"]["resets_at"])
    assert timedelta(0) < resets - datetime.now(UTC) <= timedelta(days=1)
    execute(environment, "SELECT usage_book(%s, 6000, 600)", owner_of(person))
    told = usage(gateways[1], person.headers)["limits"]
    assert told["stored_bytes"] == {"used": 6000, "limit": 5000, "left": 0}
    gateways[0].client.post("/uploads", headers=person.headers | {"Upload-Length": "700"}).raise_for_status()
    assert usage(gateways[1], person.headers)["limits"]["upload_bytes"]["used"] == 700
    assert (told["gpu_seconds"]["used"], told["gpu_seconds"]["left"]) == (600, 3000)
    execute(environment, "UPDATE users SET stored_bytes_quota = 0 WHERE username = %s", person.name)
    assert usage(gateways[1], person.headers)["limits"]["stored_bytes"] == {"used": 6000, "limit": None, "left": None}


@pytest.mark.hostile("P")
@pytest.mark.parametrize(
    ("span", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": ""}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "20260301"}, "from"),
        ({"from": "1772323200"}, "from"),
        ({"to": "2026-03-01T00:00:00"}, "to"),
        ({"to": "٢٠٢٦-٠٣-٠١"}, "to"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "to"),
        ({"from": "9999-12-31"}, "to"),
        ({"from": "2026-01-01", "to": "2026-04-03"}, "from"),
        ({"from": "0001-01-01"}, "from"),
        ({"owner": "x" * 51}, "owner"),
    ],
)
def test_a_bad_span_names_the_field(
    gateways: list[Platform], environment: dict[str, str], span: dict[str, str], field: str
) -> None:
    headers = login(gateways[0].client, "operator").headers
    refused = gateways[0].client.get("/usage", params=span, headers=headers)
    assert (refused.status_code, refused.json()["details"]["field"]) == (400, field)


def test_spans_have_defaults_and_both_ends(gateways: list[Platform], person: Person) -> None:
    told = usage(gateways[0], person.headers)
    assert told["to"] == today()
    assert datetime.fromisoformat(told["to"]) - datetime.fromisoformat(told["from"]) == timedelta(days=29)
    assert usage(gateways[0], person.headers, **{"from": "2026-01-01", "to": "2026-04-02"})["days"] == []
    assert usage(gateways[0], person.headers, to="0001-01-01")["from"] == "0001-01-01"


def test_an_admin_may_ask_for_others_and_to_others_they_are_unknown(
    gateways: list[Platform], person: Person, environment: dict[str, str]
) -> None:
    other = register(gateways[0].client, next(names))
    job = play(gateways[0], other.headers)
    gateways[0].client.post(job["cancel_url"], headers=other.headers)
    admin = login(gateways[0].client, "operator")
    told = usage(gateways[0], admin.headers, owner=other.name.upper())
    assert (told["owner"], told["totals"]["jobs"]["cancelled"]) == (other.name, 1)
    assert told["limits"]["requests"][0]["left"] == 9
    reader = {"X-API-Key": admin.key("jobs:read")["api_key"]}
    answers = [
        gateways[0].client.get("/usage", params={"owner": name}, headers=headers)
        for headers in (person.headers, reader)
        for name in (other.name, "nobody-here")
    ]
    answers.append(gateways[0].client.get("/usage", params={"owner": "nobody-here"}, headers=admin.headers))
    assert {(answer.status_code, answer.json()["message"]) for answer in answers} == {
        (404, "There is no account with this name.")
    }
    assert usage(gateways[0], person.headers, owner=person.name)["owner"] == person.name


def test_a_deleted_account_leaves_no_days(
    gateways: list[Platform], person: Person, environment: dict[str, str]
) -> None:
    owner = owner_of(person)
    play(gateways[0], person.headers)
    usage(gateways[0], person.headers)  # its request is in the table
    admin = login(gateways[0].client, "operator")
    assert gateways[0].client.delete(f"/auth/users/{person.name}", headers=admin.headers).status_code == 200
    for table in ("usage_days", "usage_requests"):
        assert execute(environment, f"SELECT * FROM {table} WHERE owner = %s", owner) == []


def test_the_anonymous_owner_has_a_view_of_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    platform = Platform(environment | {"ATELIER_ANONYMOUS_GPU_SECONDS": "30"}, tmp_path)
    try:
        platform.start()
        job_id = platform.submit(files=2, size=1000)
        assert platform.finished(job_id)["status"] == "completed"
        told = usage(platform, {})
        assert (told["owner"], told["totals"]["requests"]) == ("anonymous", 1)
        assert told["totals"]["families"]["toy"]["jobs"]["completed"] == 1
        assert told["totals"]["produced_bytes"] == told["limits"]["stored_bytes"]["used"] == 2000
        assert told["limits"]["stored_bytes"]["limit"] is None
        assert told["limits"]["requests"] == []
        assert told["totals"]["gpu_seconds"] > 0
        assert usage(platform, {}, owner="anonymous")["owner"] == "anonymous"
        assert platform.client.get("/usage", params={"owner": "ada"}).status_code == 404
        execute(environment, "SELECT usage_book('anonymous', 0, 30)")
        refused = httpx.post(f"{platform.client.base_url}/toys/play", json={})
        assert (refused.status_code, refused.json()["error"]) == (429, "quota_exceeded")
        assert refused.json()["details"]["quota"] == "gpu_seconds"
        assert int(refused.headers["retry-after"]) > 0
    finally:
        platform.close()
