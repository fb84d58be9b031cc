"""The judge: from what clients were told and what is left in database, storage and receiver, it says what went wrong.

I1 an accepted job exists once, and ends · I2 a result is one attempt's, byte for byte · I3 an ended job stays as it is
I4 attempts rise by one, nobody takes a job that is held · I5 what was cancelled did not complete · I6 an end has one
event for each receiver, which saw it · I7 failures, crashes and live jobs stay within their limits, and each attempt
has one record · I8 nobody is told
of others' jobs · I9 the storage holds what manifests name, and nothing else · I10 no hang, no error without a cause
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.coordinator.janitor import Janitor
from shared.database import open_database
from shared.settings import Settings
from shared.storage.interface import ObjectMissing, Storage
from shared.storage.open import open_storage
from tests.faults import figures, log
from tests.faults.client import PATIENCE, Asked, Client, Exchange, Record
from tests.faults.figures import Row, today
from tests.faults.log import Move
from tests.faults.rig import Rig, Trouble
from tests.platform import TERMINAL, wait_until
from tests.toys.family import StampInput
from tests.toys.runner import content, mark, stamp

SETTLE = 180  # seconds
AFTERMATH = 10.0  # seconds and a lease: so long after its healing a fault may still be told to clients
ENDS = ["job.completed", "job.failed", "job.cancelled", "job.expired"]
ROWS = """
SELECT id::text, owner, state, attempt, failures, crashes, drains, error, result_attempt, output, manifest, input,
    attempts, finished_at IS NOT NULL AS finished FROM jobs WHERE id = ANY(%s::uuid[])
"""
COPIES = "SELECT input ->> 'say', array_agg(id::text) FROM jobs WHERE owner = %s GROUP BY 1 HAVING count(*) > 1"
EVENTS = """
SELECT job_id::text, event_id::text, type, state, webhook_id::text FROM deliveries
WHERE job_id = ANY(%s::uuid[]) AND type = ANY(%s)
"""
AGE = "UPDATE jobs SET finished_at = now() - interval '2 hours' WHERE id = ANY(%s::uuid[]) AND finished_at IS NOT NULL"
AGE_FILES = "UPDATE arriving_files SET since = since - interval '2 days'"


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, of which job, and how one knows."""

    invariant: str
    job: str | None
    evidence: str

    def __str__(self) -> str:
        return (
            f"{self.invariant}: job {self.job}: {self.evidence}" if self.job else f"{self.invariant}: {self.evidence}"
        )


@dataclass
class History:
    """One experiment: its clients, and what may be answered while things are broken.

    `excused` holds statuses ≥ 500 and "lost" for answers that never came: from a fault until some seconds after its
    healing; "exits" for processes that end by themselves.
    """

    rig: Rig
    record: Record = field(default_factory=Record)
    excused: set[int | str] = field(default_factory=set)
    live_jobs: int = 0  # that an owner may have; 0 means no limit
    title: str = ""
    whole: bool = False
    report: Path | None = None
    _clients: list[Client] = field(default_factory=list)

    def client(self, tenant: str = "anonymous", headers: dict[str, str] | None = None) -> Client:
        urls = [self.rig.url(member.name) for member in self.rig.members("gateway")]
        client = Client(self.record, urls, tenant, headers)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()

    @property
    def jobs(self) -> list[str]:
        """The accepted ones."""
        return list(self.record.jobs)

    def states(self) -> dict[str, str]:
        """The accepted jobs' states, as their rows have them."""
        return dict(self.rig.postgres.rows("SELECT id::text, state FROM jobs WHERE id = ANY(%s::uuid[])", self.jobs))

    def ended(self, count: int | None = None, seconds: float = SETTLE) -> None:
        """Return when so many accepted jobs (all of them) have ended."""
        wanted = len(self.jobs) if count is None else count

        def enough() -> bool:
            self.rig.supervise()
            return sum(state in TERMINAL for state in self.states().values()) >= wanted

        wait_until(enough, seconds, f"the end of {wanted} jobs")

    def judge(self) -> list[Violation]:
        """Wait for the end of everything, and say what is not as promised."""
        violations = list(self._ends())
        return violations or [found for check in self._checks() for found in check]

    def verify(self) -> None:
        """Mend what is broken, judge, put it into the table, and fail with every violation and where the logs are."""
        self.rig.mend()
        found = self.judge()
        faults = self.rig.faults
        figures.note(
            self.report,
            Row(self.title, len(faults), len(self.jobs), self._recovery(), len(found), self.whole, today()),
        )
        if found:
            told = "\n".join(str(violation) for violation in found[:20])
            with (self.rig.folder / "violations.log").open("a") as file:
                file.write(f"{self.title}\n{told}\n")
            pytest.fail(f"{len(found)} violations; logs in {self.rig.folder}\n{told}", pytrace=False)

    def _checks(self) -> Iterator[Iterator[Violation]]:
        rows = self._rows()
        moves = log.moves(self.rig.postgres, self.jobs)
        with httpx.Client(timeout=PATIENCE) as http:
            yield self._existence(rows)
            yield self._results(rows)
            yield self._terminal(moves)
            yield self._attempts(moves)
            yield self._cancels(rows)
            yield self._events(rows, http)
            yield self._budgets(rows, moves)
            yield self._strangers()
            yield self._leftovers(rows)
            yield self._answers()
            yield self._exits()

    def _rows(self) -> dict[str, dict[str, Any]]:
        with self.rig.postgres.cursor() as cursor:
            cursor.execute(ROWS, (self.jobs,))
            names = [column.name for column in cursor.description]
            return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}

    def _ends(self) -> Iterator[Violation]:
        """I1, first half: there is an end to everything."""
        try:
            self.ended()
        except AssertionError:
            states = self.states()
            for job in self.jobs:
                if states.get(job) not in TERMINAL:
                    told = log.moves(self.rig.postgres, [job])[job]
                    yield Violation("I1", job, f"has not ended: {states.get(job)}; {_listed(told)}")

    def _existence(self, rows: dict[str, dict[str, Any]]) -> Iterator[Violation]:
        """I1: every 202 is a row, and every request that was repeated under one key is one row."""
        for job, asked in self.record.jobs.items():
            if job not in rows:
                yield Violation("I1", job, f"was accepted with 202 and is in no row ({asked.body})")
        named: dict[tuple[str, str], set[str]] = defaultdict(set)
        for told in self.record.exchanges:
            if told.key and told.status == 202:
                named[told.tenant, told.key].add(_id_in(told))
            elif told.status == 404 and (asked := self._asked_for(told)) and asked.tenant == told.tenant:
                yield Violation("I1", asked.id, f"was accepted and is unknown to its owner: {told}")
        for (tenant, key), ids in named.items():
            if len(ids) > 1:
                yield Violation("I1", min(ids), f"one key of {tenant}'s, {key}, made several jobs: {sorted(ids)}")
        said = {asked.body["say"] for asked in self.record.jobs.values() if asked.body.get("say")}
        for owner in {row["owner"] for row in rows.values()}:
            for say, ids in self.rig.postgres.rows(COPIES, owner):
                if say in said:
                    yield Violation("I1", ids[0], f"one request made several jobs: {ids}")

    def _asked_for(self, told: Exchange) -> Asked | None:
        """The accepted job in the path of a request."""
        parts = told.path.split("/")
        return self.record.jobs.get(parts[2]) if len(parts) > 2 else None

    def _results(self, rows: dict[str, dict[str, Any]]) -> Iterator[Violation]:
        """I2: the files are what the attempt that counts made, in the storage and in the archive."""
        storage = self._storage()
        for job, row in rows.items():
            if row["state"] != "completed":
                continue
            prefix = f"results/{row['owner']}/{job}/{row['result_attempt']}/"
            made = _made(self.record.jobs[job], row)
            if len(row["manifest"]) != len(made) or row["output"]["said"] != row["input"]["say"]:
                yield Violation("I2", job, f"asked {row['input']}, got {row['output']} and {row['manifest']}")
            for entry, wanted in zip(row["manifest"], made, strict=False):
                if problem := _differs(storage, entry, prefix, wanted):
                    yield Violation("I2", job, f"attempt {row['result_attempt']} counts, but {problem}")
        for told in self.record.exchanges:
            if told.method == "GET" and told.path.startswith("/results/") and told.status == 200:
                job = told.path.split("/")[2]
                if problem := _archive_differs(told.answer, rows[job]["manifest"]):
                    yield Violation("I2", job, f"the archive at {told.at:.3f}: {problem}")

    def _terminal(self, moves: dict[str, list[Move]]) -> Iterator[Violation]:
        """I3: once ended, a row and what clients are told of it stay."""
        for job, made in moves.items():
            for move in (move for move in made if move.before in TERMINAL):
                if (move.verb == "DELETE" and not move.deleted) or (move.verb == "UPDATE" and _moved(move)):
                    yield Violation("I3", job, f"had ended, and then: {move}")
        told_so: dict[str, str] = {}
        for told in sorted(self.record.exchanges, key=lambda told: told.at):
            if told.method == "GET" and told.path.startswith("/status/") and told.status == 200:
                job, status = told.path.split("/")[2], _status_in(told)
                if told_so.get(job) in TERMINAL and status != told_so[job]:
                    yield Violation("I3", job, f"was told to be {told_so[job]}, and then: {told}")
                told_so[job] = status

    def _attempts(self, moves: dict[str, list[Move]]) -> Iterator[Violation]:
        """I4: each claim raises the attempt by one and takes a queued job; nothing else touches the number."""
        for job, made in moves.items():
            for move in (move for move in made if move.verb == "UPDATE"):
                claimed = move.state == "running" and (move.before != "running" or move.attempt != move.attempt_before)
                if claimed and move.before != "queued":
                    yield Violation("I4", job, f"was taken while somebody held it: {move}; {_listed(made)}")
                if (move.attempt or 0) - (move.attempt_before or 0) != int(claimed):
                    yield Violation("I4", job, f"attempts do not rise by one at each claim: {move}; {_listed(made)}")

    def _cancels(self, rows: dict[str, dict[str, Any]]) -> Iterator[Violation]:
        """I5: after a 200 or 202 to a cancel there is one end."""
        for told in self.record.exchanges:
            if told.path.endswith("/cancel") and told.status in (200, 202):
                job = told.path.split("/")[2]
                if rows[job]["state"] != "cancelled":
                    yield Violation("I5", job, f"is {rows[job]['state']}, although: {told}")

    def _events(self, rows: dict[str, dict[str, Any]], http: httpx.Client) -> Iterator[Violation]:
        """I6: each end is one event for each webhook, and its receiver saw it or it is listed as undelivered."""
        receiver = self.rig.receiver
        if receiver is None:
            return
        pending = "SELECT count(*) FROM deliveries WHERE job_id = ANY(%s::uuid[]) AND state = 'pending'"
        try:
            wait_until(lambda: not self.rig.postgres.rows(pending, self.jobs)[0][0], SETTLE, "all deliveries")
        except AssertionError:
            left = self.rig.postgres.rows(pending, self.jobs)[0][0]
            yield Violation("I6", None, f"{left} deliveries are neither delivered nor given up")
        hooks = dict(self.rig.postgres.rows("SELECT owner, count(*) FROM webhooks GROUP BY owner"))
        found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for event in self.rig.postgres.rows(EVENTS, self.jobs, ENDS):
            found[event[0]].append(event)
        for job, row in rows.items():
            wanted = hooks.get(row["owner"], 0)
            if [event[2] for event in found[job]] != [f"job.{row['state']}"] * wanted:
                yield Violation("I6", job, f"is {row['state']}, {wanted} receivers, events: {found[job]}")
            for _, event_id, kind, state, _ in found[job]:
                if state == "delivered" and not receiver.copies.get(event_id):
                    yield Violation("I6", job, f"its {kind} {event_id} counts as delivered, and nobody saw it")

    def _budgets(self, rows: dict[str, dict[str, Any]], moves: dict[str, list[Move]]) -> Iterator[Violation]:
        """I7: nothing is tried more often than allowed, each attempt is accounted for, and limits hold."""
        settings = self.rig.settings
        crashes, failures = int(settings["ATELIER_MAX_CRASHES"]), int(settings["ATELIER_MAX_FAILURES"])
        for job, row in rows.items():
            told = {name: row[name] for name in ("state", "attempt", "failures", "crashes", "drains", "error")}
            if row["crashes"] > crashes or row["failures"] > failures or row["crashes"] > row["failures"]:
                yield Violation("I7", job, f"beyond {crashes} crashes or {failures} failures: {told}")
            open_attempts = row["attempt"] - row["failures"] - row["drains"]
            if open_attempts not in (0, 1) or (row["state"] == "completed" and open_attempts != 1):
                yield Violation("I7", job, f"attempts are not accounted for: {told}; {_listed(moves[job])}")
            if problem := _records_differ(row):
                yield Violation("I7", job, f"{problem}: {row['attempts']}; {_listed(moves[job])}")
        if self.live_jobs:
            yield from self._live(moves)

    def _live(self, moves: dict[str, list[Move]]) -> Iterator[Violation]:
        """A job surely lives from its 202 to the statement that ends it."""
        edges: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for job, asked in self.record.jobs.items():
            end = [move.at.timestamp() for move in moves[job] if move.state in TERMINAL]
            edges[asked.tenant] += [(asked.accepted_at, 1), *([(end[0], -1)] if end else [])]
        for tenant, changes in edges.items():
            live = 0
            for at, change in sorted(changes):
                live += change
                if live > self.live_jobs:
                    yield Violation(
                        "I7", None, f"{tenant} had {live} live jobs at {at:.3f}, {self.live_jobs} are allowed"
                    )
                    break

    def _strangers(self) -> Iterator[Violation]:
        """I8: what a tenant says is told to nobody else. Tenants say their names."""
        tenants = {client.tenant for client in self._clients}
        canaries = {tenant: f"canary-of-{tenant}".encode() for tenant in tenants}
        for told in self.record.exchanges:
            for tenant, canary in canaries.items():
                if tenant != told.tenant and canary in told.answer:
                    yield Violation("I8", None, f"{told.tenant} was told what {tenant} said: {told}")
        owned = {job: asked.tenant for job, asked in self.record.jobs.items()}
        for told in self.record.exchanges:
            parts = told.path.split("/")
            if told.status and told.status < 400 and len(parts) > 2:
                owner = owned.get(parts[2], told.tenant)
                if owner != told.tenant:
                    yield Violation("I8", parts[2], f"belongs to {owner}: {told.tenant} was answered, {told}")

    def _leftovers(self, rows: dict[str, dict[str, Any]]) -> Iterator[Violation]:
        """I9: much later, after a round of the janitor, each file is a job's input or one that a manifest names."""
        storage = self._storage()
        with self.rig.postgres.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")  # the guard lets no end be moved
            cursor.execute(AGE, (self.jobs,))
            cursor.execute(AGE_FILES)
        settings = Settings(
            database_url=self.rig.postgres.url, redis_url=self.rig.redis.url, storage_url=self.rig.storage_url
        )
        engine = open_database(settings.database_url, pool_size=1, name="faults-janitor")
        Janitor(settings, engine, storage).round()
        engine.dispose()
        for job, row in rows.items():
            prefix = f"results/{row['owner']}/{job}/"
            there = {key for key in storage.list(prefix) if not key.startswith(f"{prefix}input/")}
            named = {entry["key"] for entry in row["manifest"] or ()}
            if there != named:
                told = f"{row['state']} after {row['attempt']} attempts, {row['crashes']} crashes"
                yield Violation("I9", job, f"{told}: lost {sorted(named - there)}, left over {sorted(there - named)}")
        for owner in {row["owner"] for row in rows.values()}:
            found = {key.split("/")[2] for key in storage.list(f"results/{owner}/")}
            known = self.rig.postgres.rows("SELECT id::text FROM jobs WHERE owner = %s", owner)
            for job in sorted(found - {job for (job,) in known}):
                yield Violation("I9", job, f"files of {owner} that belong to no job")

    def _answers(self) -> Iterator[Violation]:
        """I10: every request is answered in time, and an error has a cause that the experiment names."""
        counts: Counter[str] = Counter()
        first: dict[str, Exchange] = {}
        troubles = self.rig.troubles()
        for told in self.record.exchanges:
            problem = None
            excused = self.excused if any(self._met(told, trouble) for trouble in troubles) else set()
            if told.seconds >= PATIENCE or (told.lost and "Timeout" in told.lost):
                problem = "hung"
            elif told.lost and "lost" not in excused:
                problem = "was lost"
            elif told.status and told.status >= 500 and told.status not in excused:
                problem = f"got {told.status}"
            if problem:
                counts[problem] += 1
                first.setdefault(problem, told)
        for problem, count in counts.items():
            yield Violation(
                "I10", None, f"{count} of {len(self.record.exchanges)} requests {problem}; {first[problem]}"
            )

    def _met(self, told: Exchange, trouble: Trouble) -> bool:
        """Whether it was under way while that lasted, or soon after."""
        until = trouble.healed + float(self.rig.settings["ATELIER_LEASE_SECONDS"]) + AFTERMATH
        return told.at <= until and told.at + told.seconds >= trouble.broke

    def _exits(self) -> Iterator[Violation]:
        """I10: no process ends that nobody has ended."""
        exits = self.rig.taken_exits()
        for name, code in () if "exits" in self.excused else exits:
            yield Violation("I10", None, f"{name} ended by itself with {code}, see {self.rig[name].log}")

    def _storage(self) -> Storage:
        s3 = self.rig.s3
        return open_storage(self.rig.storage_url, f"http://127.0.0.1:{s3.port}" if s3 else None)

    def _recovery(self) -> float | None:
        """Seconds from a fault, or from its healing if it has lasted, until what it hit went on: the longest.

        Where attempts were lost, until their jobs were claimed again; else until the next job was completed, one that
        was claimed after the healing.
        """
        moves, troubles = log.moves(self.rig.postgres, self.jobs), self.rig.troubles()
        gaps = [gap for made in moves.values() for gap in _gaps(made, troubles)]
        waits, ends = list(gaps), [end for made in moves.values() for end in _completions(made)]
        for trouble in troubles:
            if trouble.lasted:
                waits += _first(done - trouble.healed for claimed, done in ends if claimed > trouble.healed)
            elif not gaps:
                waits += _first(done - trouble.broke for _, done in ends if done > trouble.broke)
        return max(waits, default=None)


def _first(waits: Iterable[float]) -> list[float]:
    return [min(found)] if (found := list(waits)) else []


def _claims(made: list[Move]) -> list[float]:
    return [move.at.timestamp() for move in made if move.state == "running" and move.before == "queued"]


def _completions(made: list[Move]) -> Iterator[tuple[float, float]]:
    """When it was claimed the last time, and when it was completed, if it was."""
    for move in made:
        if move.state == "completed" and move.before != "completed":
            yield _claims(made)[-1], move.at.timestamp()


def _gaps(made: list[Move], troubles: list[Trouble]) -> Iterator[float]:
    """From the last fault during each attempt that was lost, or from its healing, to the next claim."""
    for earlier, later in pairwise(_claims(made)):
        if during := [trouble for trouble in troubles if earlier <= trouble.broke <= later]:
            broke, healed = during[-1]
            yield later - (healed if healed <= later else broke)


def _made(asked: Asked, row: dict[str, Any]) -> list[bytes]:
    """The files that a toy makes of what was asked."""
    wanted = row["input"]
    head = mark(asked.id, row["result_attempt"]) if wanted["marked"] else b""
    made = [head + content(wanted["seed"] + number, wanted["size"]) for number in range(wanted["files"])]
    if "picture" in asked.body:
        picture = base64.b64decode(asked.body["picture"])
        made = [stamp(StampInput(**wanted), picture), picture, *made]
    return made


def _differs(storage: Storage, entry: dict[str, Any], prefix: str, wanted: bytes) -> str | None:
    if not entry["key"].startswith(prefix):
        return f"its file lies at {entry['key']}"
    try:
        found = b"".join(storage.read(entry["key"]))
    except ObjectMissing:
        return f"there is no {entry['key']}"
    if hashlib.sha256(found).hexdigest() != entry["sha256"] or len(found) != entry["size"]:
        return f"{entry['key']} is not what its manifest says"
    return None if found == wanted else f"{entry['key']} begins {found[:60]!r}, not {wanted[:60]!r}"


def _archive_differs(answer: bytes, manifest: list[dict[str, Any]]) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(answer)) as archive:
            for entry in manifest:
                if hashlib.sha256(archive.read(entry["name"])).hexdigest() != entry["sha256"]:
                    return f"{entry['name']} is not what its manifest says"
    except (zipfile.BadZipFile, KeyError) as error:
        return str(error)
    return None


def _records_differ(row: dict[str, Any]) -> str | None:
    """Each attempt of a job that has ended left one record, in order, and the records tell what the counters count."""
    numbers = [entry["number"] for entry in row["attempts"]]
    if numbers != list(range(1, row["attempt"] + 1)):
        return f"{row['attempt']} attempts left the records {numbers}"
    outcomes = Counter(entry["outcome"] for entry in row["attempts"])
    crashes = sum(entry.get("counted", False) for entry in row["attempts"])
    if crashes != row["crashes"]:
        return f"{row['crashes']} crashes, and {crashes} attempts that were lost and counted"
    if row["state"] == "completed" and (outcomes["completed"] != 1 or numbers[-1] != row["result_attempt"]):
        return f"attempt {row['result_attempt']} is the result, and the records differ"
    return None


def _moved(move: Move) -> bool:
    return bool(move.changed) or (move.state, move.attempt) != (move.before, move.attempt_before)


def _id_in(told: Exchange) -> str:
    return str(httpx.Response(200, content=told.answer).json()["job_id"])


def _status_in(told: Exchange) -> str:
    return str(httpx.Response(200, content=told.answer).json()["status"])


def _listed(made: list[Move]) -> str:
    return " | ".join(str(move) for move in made)


def say(number: int) -> str:
    """What a toy may say so that its request is told from all others."""
    return f"{number}-{time.time_ns()}"
