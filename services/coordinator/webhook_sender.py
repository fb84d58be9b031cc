"""Sends events to the receivers that their owners named (Standard Webhooks 1.0): many at once, few to any one of them.

A delivery is claimed by a lease, tried once, and what came of it is noted under the same try's number: a sender that
dies loses nothing, and its receiver may see the event twice, with the same id.
"""

from __future__ import annotations

import email.utils
import json
import random
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from services.coordinator.loop import AWAY, Loop, log
from shared.database import open_database
from shared.egress.client import Answer, Egress
from shared.egress.errors import BadUrl, EgressError
from shared.failpoints import failpoint
from shared.listener import Listener
from shared.settings import Settings
from shared.times import of_json
from shared.webhooks.events import CHANNEL, PROGRESS_EVENT
from shared.webhooks.outbox import Due, Outcome, claim, finish
from shared.webhooks.signing import signed_headers
from shared.webhooks.targets import Targets

THREADS = 20
PER_DESTINATION = 2
OWNERS_SHARE = 5  # an owner has a fifth of the threads at most, where there are several owners
POLL = 1.0
JITTER = 0.2
MAX_RETRY_AFTER = 86_400.0
MAX_RESPONSE = 4096  # bytes of the answer that are kept
MAX_ANSWER = 1 << 30  # more than is ever read
THROTTLED = {429, 502, 503, 504}
TIMES = ("created_at", "started_at", "finished_at")  # of a job, in an event's data


class WebhookSender(Loop):
    """One thread that claims, and THREADS that send. Several senders may run."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("webhooks", POLL, self._claim)
        self._settings, self._targets = settings, Targets(settings)
        self._engine = open_database(settings.database_url, pool_size=4, name="atelier-webhooks")
        self._egress = Egress(settings.egress_ports, settings.egress_networks, seconds=settings.webhook_seconds)
        self._listener = Listener(settings.database_url, CHANNEL)
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._per_owner = THREADS // OWNERS_SHARE if settings.enable_auth else THREADS
        self._flying: set[Future[None]] = set()
        self._pool = ThreadPoolExecutor(THREADS, "webhook")

    def run(self) -> None:
        with self._pool:
            while not self._stop_asked.is_set():
                self.round()
                self._listener.wait(POLL, self._woken)
                self._drain()
        self._listener.close()
        self._engine.dispose()

    def stop(self) -> None:
        """Claim no more; what is under way is finished."""
        super().stop()
        self._wake()

    def _claim(self) -> None:
        self._flying = {future for future in self._flying if not future.done()}
        if not (room := THREADS - len(self._flying)):
            return
        with self._engine.begin() as connection:
            due = claim(connection, room, PER_DESTINATION, self._per_owner)
        for delivery in due:
            future = self._pool.submit(self._deliver, delivery)
            self._flying.add(future)
            future.add_done_callback(lambda _: self._wake())

    def _deliver(self, due: Due) -> None:
        outcome = self._try(due)
        failpoint("H1")
        told = {"event": str(due.event_id), "type": due.type, "try": due.turn, "status": outcome.status}
        try:
            with self._engine.begin() as connection:
                finish(connection, due, outcome)
        except AWAY as error:  # its lease runs out, and it is sent again
            log.warning("a delivery could not be noted", **told, error=str(error).split("\n", 1)[0])
        else:
            log.info("delivery tried", **told, state=outcome.state, error=outcome.error)

    def _try(self, due: Due) -> Outcome:
        body = payload(due, self._settings.public_url)
        headers = signed_headers(due.keys, str(due.event_id), int(due.tried_at.timestamp()), body)
        try:
            url = self._targets.check(due.url)
            with self._egress.post(url, body, headers | {"Content-Type": "application/json"}, MAX_ANSWER) as answer:
                return self._judged(due, answer, _beginning(answer.chunks))
        except BadUrl as error:
            return self._failed(due, None, None, str(error))
        except EgressError:
            return self._failed(due, None, None, "There was no answer.")
        except Exception:  # a bug of ours with one delivery must not send it for ever
            log.exception("a delivery failed", event=str(due.event_id))
            return self._failed(due, None, None, "It could not be sent.")

    def _judged(self, due: Due, answer: Answer, response: str) -> Outcome:
        if 200 <= answer.status < 300:
            return Outcome("delivered", answer.status, response, None)
        if answer.status == 410:
            return Outcome("disabled", answer.status, response, "The receiver is gone.")
        told = "A redirect is not followed." if 300 <= answer.status < 400 else "The receiver refused it."
        return self._failed(due, answer.status, response, told, _seconds(answer.retry_after))

    def _failed(
        self, due: Due, status: int | None, response: str | None, error: str, wanted: float | None = None
    ) -> Outcome:
        schedule = self._settings.webhook_schedule
        if due.turn >= len(schedule) or due.type == PROGRESS_EVENT:
            return Outcome("undelivered", status, response, error)
        pause = schedule[due.turn] * random.uniform(1 - JITTER, 1 + JITTER)
        if wanted is not None:
            pause = max(pause, min(wanted, MAX_RETRY_AFTER))
        return Outcome("pending", status, response, error, pause, wanted is not None and status in THROTTLED)

    def _wake(self) -> None:
        self._waker.send(b"x")

    def _drain(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass


def payload(due: Due, public_url: str) -> bytes:
    """The body: what happened, and where to look; the same in every try. `public_url` may be empty."""
    times = {name: of_json(due.data[name]) for name in TIMES if due.data.get(name)}
    data = due.data | {name: moment.isoformat() for name, moment in times.items()}
    if due.job_id is not None:
        data |= {
            "status_url": f"{public_url}/status/{due.job_id}",
            "result_url": f"{public_url}/results/{due.job_id}",
        }
    told = {"type": due.type, "timestamp": due.created_at.isoformat(), "data": data}
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def _beginning(chunks: Iterator[bytes]) -> str:
    """The answer's first MAX_RESPONSE bytes as printable text; its status counts although the rest may never come."""
    seen = bytearray()
    try:
        for chunk in chunks:
            seen += chunk
            if len(seen) >= MAX_RESPONSE:
                break
    except EgressError:
        pass
    text = bytes(seen[:MAX_RESPONSE]).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds from now, whichever of its two forms it has; None if it has neither."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
