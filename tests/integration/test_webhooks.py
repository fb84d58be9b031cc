"""Webhooks against a receiver that misbehaves in every way; signatures are verified by the public package."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

from tests.egress.servers import Behaviour, Server, broken, redirect, reply, serving
from tests.integration.test_accounts import execute
from tests.platform import Platform, wait_until

SCHEDULE = "0,0.1,0.1,0.1"
TRIES = 4


@dataclass
class Heard:
    """One request at the receiver."""

    at: float
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Behaviours by path, one after the other (the last one stays), and what came."""

    server: Server
    heard: dict[str, list[Heard]] = field(default_factory=dict)

    def at(self, path: str, *behaviours: Behaviour) -> str:
        """Answer so at this path; its URL."""
        came = self.heard.setdefault(path, [])

        def behave(handler: BaseHTTPRequestHandler) -> None:
            _, headers, body = self.server.asked[-1]
            turn = len(came)
            came.append(Heard(time.monotonic(), {k.lower(): v for k, v in headers.items()}, body))
            (behaviours or (reply(),))[min(turn, len(behaviours or (1,)) - 1)](handler)

        self.server.behaviours[path] = behave
        return f"http://127.0.0.1:{self.server.port}{path}"

    def waits_for(self, path: str, count: int) -> list[Heard]:
        """What came, once there are so many."""
        wait_until(lambda: len(self.heard[path]) >= count, 30, f"{count} events at {path}")
        return self.heard[path]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with serving({}) as server:
        yield Receiver(server)


@pytest.fixture(scope="module")
def platform(
    environment: dict[str, str], receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    allowed = {
        "ATELIER_EGRESS_NETWORKS": "127.0.0.0/8",
        "ATELIER_EGRESS_PORTS": str(receiver.server.port),
        "ATELIER_WEBHOOK_HTTP": "true",
        "ATELIER_WEBHOOK_SCHEDULE": SCHEDULE,
        "ATELIER_WEBHOOK_SECONDS": "2",
        "ATELIER_PUBLIC_URL": "https://api.example.com",
        "ATELIER_MAX_WEBHOOKS": "40",
    }
    platform = Platform(environment | allowed, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


def create(platform: Platform, url: str, **more: Any) -> dict[str, Any]:
    made = platform.client.post("/webhooks", json={"url": url, **more})
    assert made.status_code == 201, made.text
    return made.json()


@pytest.fixture
def registered(platform: Platform) -> Iterator[Callable[..., dict[str, Any]]]:
    """Makes webhooks, and deletes them after the test: they hear of all jobs."""
    made: list[str] = []

    def make(url: str, **more: Any) -> dict[str, Any]:
        webhook = create(platform, url, **more)
        made.append(webhook["id"])
        return webhook

    yield make
    for webhook_id in made:
        platform.client.delete(f"/webhooks/{webhook_id}")


def deliveries(platform: Platform, webhook: str = "default", **asked: Any) -> list[dict[str, Any]]:
    found = platform.client.get(f"/webhooks/{webhook}/deliveries", params=asked)
    assert found.status_code == 200, found.text
    return found.json()["deliveries"]


def settled(platform: Platform, webhook: str = "default", count: int = 1, **asked: Any) -> list[dict[str, Any]]:
    """So many deliveries, none of them pending."""

    def done() -> list[dict[str, Any]]:
        found = deliveries(platform, webhook, **asked)
        return found if len(found) >= count and all(d["state"] != "pending" for d in found) else []

    return wait_until(done, 30, "settled deliveries")


def test_a_jobs_webhook_hears_how_it_ended(platform: Platform, receiver: Receiver) -> None:
    url = receiver.at("/ended")
    secret = platform.client.get("/webhooks/default/secret").json()["secret"]
    job_id = platform.submit(steps=1, say="private", webhook_url=url)
    (heard,) = receiver.waits_for("/ended", 1)
    event = Webhook(secret).verify(heard.body, heard.headers)
    assert event["type"] == "job.completed"
    assert event["data"]["job_id"] == job_id
    assert event["data"]["status"] == "completed"
    shown = platform.client.get(f"/status/{job_id}").json()
    times = ("created_at", "started_at", "finished_at")
    assert [event["data"][name] for name in times] == [shown[name] for name in times]
    assert event["data"]["result_url"] == f"https://api.example.com/results/{job_id}"
    assert heard.headers["content-type"] == "application/json"
    assert len(heard.body) < 20_000
    assert b"private" not in heard.body, "inputs and outputs are fetched, not sent"
    (delivery,) = settled(platform, job_id=job_id)
    assert (delivery["state"], delivery["status"], delivery["tries"]) == ("delivered", 200, 1)
    assert delivery["id"] == heard.headers["webhook-id"]
    assert delivery["response"] == "hello"
    stored = execute(platform.environment, "SELECT input FROM jobs WHERE id = %s", job_id)[0][0]
    assert "webhook_url" not in stored


def test_failure_cancellation_and_start_are_told_to_whoever_asked(
    platform: Platform, receiver: Receiver, registered: Callable[..., dict[str, Any]]
) -> None:
    registered(receiver.at("/failures"), events=["job.failed", "job.cancelled"])
    registered(receiver.at("/starts"), events=["job.started"])
    failed = platform.submit(fail="input")
    platform.finished(failed)
    running = platform.submit(steps=1000, step_seconds=0.02)
    platform.running(running)
    platform.client.post(f"/jobs/{running}/cancel")
    told = {(h.event["type"], h.event["data"]["job_id"]) for h in receiver.waits_for("/failures", 2)}
    assert told == {("job.failed", failed), ("job.cancelled", running)}
    error = next(h.event["data"]["error"] for h in receiver.heard["/failures"] if h.event["type"] == "job.failed")
    assert error["code"] == "input_rejected"
    assert {h.event["data"]["job_id"] for h in receiver.waits_for("/starts", 2)} == {failed, running}


def test_a_passed_deadline_is_told(platform: Platform, receiver: Receiver) -> None:
    blocker = platform.submit(steps=1000, step_seconds=0.02)
    platform.running(blocker)
    job_id = platform.submit(webhook_url=receiver.at("/expired"))
    execute(platform.environment, "UPDATE jobs SET deadline_at = now() - interval '1 s' WHERE id = %s", job_id)
    (heard,) = receiver.waits_for("/expired", 1)
    assert heard.event["type"] == "job.expired"
    assert heard.event["data"]["error"]["code"] == "deadline"
    platform.client.post(f"/jobs/{blocker}/cancel")


def test_progress_is_told_on_request_and_seldom(platform: Platform, receiver: Receiver) -> None:
    url = receiver.at("/progress")
    job_id = platform.submit(
        steps=100, step_seconds=0.03, webhook_url=url, webhook_events=["job.progress", "job.completed"]
    )
    platform.finished(job_id)
    heard = receiver.waits_for("/progress", 2)
    settled(platform, job_id=job_id, count=2)
    assert sorted(h.event["type"] for h in heard) == ["job.completed", "job.progress"], "one in ten seconds"
    progress = next(h.event["data"]["progress"] for h in heard if h.event["type"] == "job.progress")
    assert 0 < progress < 100


def test_tries_carry_the_same_id_until_one_is_taken(platform: Platform, receiver: Receiver) -> None:
    url = receiver.at("/flaky", reply(b"not now\0\x1b[31m", 500), broken(b"HTTP/1.1 2"), reply(b"", 204))
    job_id = platform.submit(webhook_url=url)
    heard = receiver.waits_for("/flaky", 3)
    assert len({h.headers["webhook-id"] for h in heard}) == 1
    assert len({h.body for h in heard}) == 1
    secret = platform.client.get("/webhooks/default/secret").json()["secret"]
    for one in heard:
        Webhook(secret).verify(one.body, one.headers)
    (delivery,) = settled(platform, job_id=job_id)
    assert (delivery["state"], delivery["tries"], delivery["status"]) == ("delivered", 3, 204)


def test_a_redirect_is_a_failure_and_may_be_asked_for_again(platform: Platform, receiver: Receiver) -> None:
    elsewhere = receiver.at("/elsewhere")
    url = receiver.at("/moved", *[redirect(elsewhere)] * TRIES, reply())
    job_id = platform.submit(webhook_url=url)
    (delivery,) = settled(platform, job_id=job_id)
    assert (delivery["state"], delivery["tries"], delivery["status"]) == ("undelivered", TRIES, 302)
    assert receiver.heard["/elsewhere"] == []
    again = platform.client.post(f"/webhooks/default/deliveries/{delivery['id']}/redeliver")
    assert again.status_code == 202
    assert again.json()["id"] == delivery["id"]
    heard = receiver.waits_for("/moved", TRIES + 1)
    assert len({h.headers["webhook-id"] for h in heard}) == 1
    (delivery,) = settled(platform, job_id=job_id)
    assert (delivery["state"], delivery["tries"]) == ("delivered", TRIES + 1)


def test_gone_disables_a_webhook_and_parks_what_waits(
    platform: Platform, receiver: Receiver, registered: Callable[..., dict[str, Any]]
) -> None:
    webhook = registered(receiver.at("/gone", reply(b"", 410), reply()), events=["job.completed"])["id"]
    first = platform.submit()
    wait_until(lambda: not platform.client.get(f"/webhooks/{webhook}").json()["enabled"], 30, "disabled")
    assert settled(platform, webhook)[0]["state"] == "disabled"
    platform.finished(platform.submit())
    assert len(deliveries(platform, webhook)) == 1, "a disabled webhook collects nothing"
    refused = platform.client.post(f"/webhooks/{webhook}/redeliver", json={"since": "2020-01-01T00:00:00Z"})
    assert refused.status_code == 409
    assert platform.client.post(f"/webhooks/{webhook}/test").status_code == 409
    assert platform.client.patch(f"/webhooks/{webhook}", json={"enabled": True}).json()["disabled_reason"] is None
    again = platform.client.post(f"/webhooks/{webhook}/redeliver", json={"since": "2020-01-01T00:00:00Z"})
    assert (again.status_code, again.json()) == (202, {"redelivered": 1})
    heard = receiver.waits_for("/gone", 2)
    assert [h.event["data"]["job_id"] for h in heard] == [first, first]


def test_a_busy_receiver_is_left_alone_as_long_as_it_says(platform: Platform, receiver: Receiver) -> None:
    busy = receiver.at("/busy", reply(b"", 429, Retry_After="2"), reply())
    first = platform.submit(webhook_url=busy)
    receiver.waits_for("/busy", 1)
    wait_until(lambda: deliveries(platform, job_id=first)[0]["status"] == 429, 30, "noted")
    second = platform.submit(webhook_url=busy)
    platform.finished(second)
    heard = receiver.waits_for("/busy", 3)
    retried = next(h for h in heard[1:] if h.event["data"]["job_id"] == first)
    assert retried.at - heard[0].at >= 2


def test_a_slow_receiver_holds_up_nobody(
    platform: Platform, receiver: Receiver, registered: Callable[..., dict[str, Any]]
) -> None:
    released, lock = threading.Event(), threading.Lock()
    held: list[socket.socket] = []
    most = 0

    def slow(handler: BaseHTTPRequestHandler) -> None:
        nonlocal most
        with lock:
            held.append(handler.connection)
            most = max(most, sum(not _hung_up(connection) for connection in held))
        released.wait(20)
        with lock:
            held.remove(handler.connection)
        reply()(handler)

    registered(receiver.at("/slow", slow), events=["job.completed"])
    jobs = [platform.submit() for _ in range(30)]
    receiver.waits_for("/slow", 2)
    quick = platform.submit(webhook_url=receiver.at("/quick"))
    assert receiver.waits_for("/quick", 1)[0].event["data"]["job_id"] == quick
    for job_id in jobs:
        platform.finished(job_id)
    released.set()
    assert most == 2


def _hung_up(connection: socket.socket) -> bool:
    """Whether the sender has lost its patience with this request."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_both_secrets_sign_while_they_are_exchanged(
    platform: Platform, receiver: Receiver, registered: Callable[..., dict[str, Any]]
) -> None:
    webhook = registered(receiver.at("/rotated"))
    new = platform.client.post(f"/webhooks/{webhook['id']}/rotate-secret", json={}).json()["secret"]
    assert new != webhook["secret"]
    sent = platform.client.post(f"/webhooks/{webhook['id']}/test")
    assert sent.json()["type"] == "webhook.test"
    (heard,) = receiver.waits_for("/rotated", 1)
    assert heard.headers["webhook-signature"].count("v1,") == 2
    for secret in (new, webhook["secret"]):
        Webhook(secret).verify(heard.body, heard.headers)
    newest = platform.client.post(f"/webhooks/{webhook['id']}/rotate-secret", json={"overlap_seconds": 0}).json()
    platform.client.post(f"/webhooks/{webhook['id']}/test")
    heard = receiver.waits_for("/rotated", 2)[1]
    assert heard.headers["webhook-signature"].count("v1,") == 1
    Webhook(newest["secret"]).verify(heard.body, heard.headers)


def test_a_key_pair_signs_without_a_shared_secret(
    platform: Platform, receiver: Receiver, registered: Callable[..., dict[str, Any]]
) -> None:
    webhook = registered(receiver.at("/pair"), signing="ed25519")
    assert webhook["secret"] is None
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(webhook["public_key"].removeprefix("whpk_")))
    platform.client.post(f"/webhooks/{webhook['id']}/test")
    (heard,) = receiver.waits_for("/pair", 1)
    kind, _, signature = heard.headers["webhook-signature"].partition(",")
    assert kind == "v1a"
    signed = f"{heard.headers['webhook-id']}.{heard.headers['webhook-timestamp']}.".encode() + heard.body
    public.verify(base64.b64decode(signature), signed)


def test_events_survive_the_sender(platform: Platform, receiver: Receiver) -> None:
    entered, released = threading.Event(), threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        entered.set()
        released.wait(20)
        broken(b"")(handler)

    url = receiver.at("/survives", hang, reply())
    job_id = platform.submit(webhook_url=url)
    assert entered.wait(30)
    platform.kill("coordinator")
    released.set()
    execute(
        platform.environment, "UPDATE deliveries SET lease_until = now() WHERE job_id = %s", job_id
    )  # a minute passes
    platform.start("coordinator")
    heard = receiver.waits_for("/survives", 2)
    assert heard[0].headers["webhook-id"] == heard[1].headers["webhook-id"]
    (delivery,) = settled(platform, job_id=job_id)
    assert (delivery["state"], delivery["tries"]) == ("delivered", 2)


def test_a_replayed_submit_has_one_event(platform: Platform, receiver: Receiver) -> None:
    url = receiver.at("/once")
    key = {"Idempotency-Key": "one-webhook"}
    first = platform.submit(headers=key, webhook_url=url)
    assert platform.submit(headers=key, webhook_url=url) == first
    settled(platform, job_id=first)
    assert len(receiver.heard["/once"]) == 1
    other = platform.client.post("/toys/play", json={"webhook_url": receiver.at("/other")}, headers=key)
    assert other.status_code == 422, "another webhook is another request"


def test_headers_serve_bodies_that_have_no_place(platform: Platform, receiver: Receiver) -> None:
    headers = {"X-Webhook-URL": receiver.at("/header"), "X-Webhook-Events": "job.started, job.completed"}
    job_id = platform.submit(headers=headers)
    heard = receiver.waits_for("/header", 2)
    assert {h.event["type"] for h in heard} == {"job.started", "job.completed"}
    assert {h.event["data"]["job_id"] for h in heard} == {job_id}


REFUSED = [
    ({"webhook_url": ""}, "webhook_url"),
    ({"webhook_url": "ftp://example.com/x"}, "webhook_url"),
    ({"webhook_url": "https://user:pass@example.com"}, "webhook_url"),
    ({"webhook_url": "https://example.com:22"}, "webhook_url"),
    ({"webhook_url": "https://169.254.169.254/latest"}, "webhook_url"),
    ({"webhook_url": "https://[::1]/"}, "webhook_url"),
    ({"webhook_url": "https://[::ffff:10.0.0.1]/"}, "webhook_url"),
    ({"webhook_url": "https://e.com/" + "x" * 2048}, "webhook_url"),
    ({"webhook_url": 5}, "webhook_url"),
    ({"webhook_url": "https://example.com", "webhook_events": []}, "webhook_events"),
    ({"webhook_url": "https://example.com", "webhook_events": ["job.exploded"]}, "webhook_events"),
    ({"webhook_events": ["job.completed"]}, "webhook_events"),
]


@pytest.mark.hostile("W")
@pytest.mark.parametrize(("body", "field"), REFUSED)
def test_a_bad_webhook_makes_no_job(platform: Platform, body: dict[str, Any], field: str) -> None:
    before = len(platform.client.get("/jobs", params={"limit": 100}).json()["jobs"])
    answer = platform.client.post("/toys/play", json=body)
    assert answer.status_code == 400
    assert field in json.dumps(answer.json()["details"])
    assert len(platform.client.get("/jobs", params={"limit": 100}).json()["jobs"]) == before


@pytest.mark.hostile("W")
@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"X-Webhook-URL": "gopher://example.com"}, "X-Webhook-URL"),
        ({"X-Webhook-URL": "https://example.com", "X-Webhook-Events": "job.done"}, "X-Webhook-Events"),
        ({"X-Webhook-Events": "job.failed"}, "X-Webhook-Events"),
    ],
)
def test_bad_headers_are_named(platform: Platform, headers: dict[str, str], field: str) -> None:
    answer = platform.client.post("/toys/play", json={}, headers=headers)
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, field)


@pytest.mark.hostile("W")
def test_an_item_of_an_array_has_no_webhook_of_its_own(platform: Platform) -> None:
    items = [{"prompt": "a red circle"}, {"prompt": "a red circle", "webhook_url": "https://example.com"}]
    answer = platform.client.post("/generate/batch", json=items)
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, "1.webhook_url")


@pytest.mark.hostile("W")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"url": "https://example.com", "events": ["job.*"]}, "events"),
        ({"url": "https://example.com", "events": []}, "events"),
        ({"url": "https://example.com", "description": "x" * 201}, "description"),
        ({"url": "https://example.com", "signing": "rsa"}, "signing"),
        ({"url": "https://example.com", "owner": "somebody"}, "owner"),
        ({"url": "https://example.com", "secret": "whsec_AAAA"}, "secret"),
    ],
)
def test_bad_webhooks_are_refused_by_field(platform: Platform, body: dict[str, Any], field: str) -> None:
    answer = platform.client.post("/webhooks", json=body)
    assert answer.status_code == 400
    assert field in json.dumps(answer.json()["details"])
    assert platform.client.get("/webhooks").json()["webhooks"] == []


def test_webhooks_are_listed_changed_and_deleted(platform: Platform, receiver: Receiver) -> None:
    made = create(platform, receiver.at("/crud"), description="mine")
    webhook = f"/webhooks/{made['id']}"
    assert platform.client.get(f"{webhook}/secret").json()["secret"] == made["secret"]
    listed = platform.client.get("/webhooks").json()["webhooks"]
    assert [(w["id"], w["description"], w["enabled"]) for w in listed] == [(made["id"], "mine", True)]
    assert "secret" not in listed[0]
    changed = platform.client.patch(webhook, json={"events": ["job.failed"], "enabled": False}).json()
    assert (changed["events"], changed["enabled"], changed["description"]) == (["job.failed"], False, "mine")
    assert platform.client.patch(webhook, json={"url": "http://192.168.0.1/"}).status_code == 400
    assert platform.client.delete(webhook).status_code == 204
    for gone in (
        platform.client.get(webhook),
        platform.client.delete(webhook),
        platform.client.post(f"{webhook}/test"),
    ):
        assert gone.status_code == 404


def test_an_owner_may_have_so_many(platform: Platform) -> None:
    made, answers = [], []
    for _ in range(41):
        answer = platform.client.post("/webhooks", json={"url": "https://example.com"})
        answers.append(answer)
        if answer.status_code == 201:
            made.append(answer.json()["id"])
    for webhook_id in made:
        platform.client.delete(f"/webhooks/{webhook_id}")
    assert len(made) == 40
    assert (answers[-1].status_code, answers[-1].json()["details"]["limit"]) == (409, 40)


def test_deliveries_come_in_pages(platform: Platform, receiver: Receiver, registered: Callable[..., Any]) -> None:
    webhook = registered(receiver.at("/pages"))["id"]
    for _ in range(5):
        platform.client.post(f"/webhooks/{webhook}/test")
    whole = [d["id"] for d in settled(platform, webhook, 5)]
    first = platform.client.get(f"/webhooks/{webhook}/deliveries", params={"limit": 3}).json()
    rest = platform.client.get(f"/webhooks/{webhook}/deliveries", params={"limit": 3, "before": first["next"]}).json()
    assert [d["id"] for d in first["deliveries"] + rest["deliveries"]] == whole
    assert rest["next"] is None
    assert deliveries(platform, webhook, status="undelivered") == []


def test_an_address_that_answers_nothing_says_no_more_than_that(platform: Platform) -> None:
    job_id = platform.submit(webhook_url="https://no-such-host.invalid/x")
    (delivery,) = settled(platform, job_id=job_id)
    assert (delivery["state"], delivery["status"], delivery["error"]) == ("undelivered", None, "There was no answer.")


def test_openapi_has_the_routes(platform: Platform) -> None:
    document = httpx.get(f"{platform.client.base_url}/openapi.json").json()
    assert "/webhooks/{webhook_id}/deliveries/{event_id}/redeliver" in document["paths"]
    fields = document["components"]["schemas"]["ToyInput"]["properties"]
    assert {"webhook_url", "webhook_events"} <= set(fields)
