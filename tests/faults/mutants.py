"""The product with one rule broken: a copy of its code in which exactly one text is replaced by another."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.platform import ROOT

ROOMS = ("shared", "services", "workers", "tests")


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file`, `rule` becomes `broken`; a history of it breaks `invariant`."""

    name: str
    invariant: str
    file: str
    rule: str
    broken: str


def copy(folder: Path, mutant: Mutant | None = None, **names: object) -> Path:
    """The code, every file a link to ours but the broken one; `{names}` in its text are filled in.

    AssertionError if the rule is not there exactly once: then it was rewritten, and so must the mutant be.
    """
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, copy_function=os.symlink)
    if mutant is not None:
        text = (ROOT / mutant.file).read_text()
        count = text.count(mutant.rule)
        assert count == 1, f"{mutant.name}: {mutant.file} has this {count} times, look at tests/faults: {mutant.rule}"
        broken = mutant.broken
        for name, value in names.items():
            broken = broken.replace("{" + name + "}", str(value))
        (folder / mutant.file).unlink()
        (folder / mutant.file).write_text(text.replace(mutant.rule, broken))
    return folder


NO_FENCE = Mutant(
    "no fence",
    "I2",
    "shared/jobs/attempts.py",
    """MINE = "id = :id AND state = 'running' AND attempt = :attempt\"""",
    """MINE = "id = :id AND state = 'running' AND :attempt = :attempt\"""",
)
SHARED_KEY = Mutant(
    "one key for the results of all attempts",
    "I2",
    "shared/jobs/artifacts.py",
    'return f"{job_prefix(owner, job_id)}{attempt}/"',
    'return f"{job_prefix(owner, job_id)}files/"',
)
NO_CANCEL_CHECK = Mutant(
    "publishing without a look at cancellation",
    "I5",
    "shared/jobs/attempts.py",
    "WHERE {MINE} AND cancel_requested_at IS NULL",
    "WHERE {MINE}",
)
TWO_STATEMENTS = Mutant(
    "cancelling by two statements",
    "I5",
    "shared/jobs/queries.py",
    "            state: str | None = await connection.fetchval(CANCEL, job_id, owner, ttl)\n",
    """            import asyncio, pathlib
            seen = "SELECT state FROM jobs WHERE id = $1 AND owner = $2 AND state IN ('queued', 'running')"
            state: str | None = await connection.fetchval(seen, job_id, owner)
            pathlib.Path("{hole}.reached").touch()
            while pathlib.Path("{hole}").exists():
                await asyncio.sleep(0.01)
            wish = "UPDATE jobs SET cancel_requested_at = now() WHERE id = $1 AND state = 'running'"
            if state == "queued":
                wish = "UPDATE jobs SET cancel_requested_at = now(), state = 'cancelled', finished_at = now() "
                wish += "WHERE id = $1 AND state = 'queued'"
            await connection.execute(wish, job_id)
            state = "cancelled" if state == "queued" else state
""",
)
PLAIN_COUNT = Mutant(
    "counting live jobs without a lock",
    "I7",
    "shared/jobs/submissions.py",
    "await self._lock(OWNER_LOCK, {s.owner for s in fresh} if limits.per_owner else metered)",
    "await self._lock(OWNER_LOCK, metered)",
)
NO_COMPARISON = Mutant(
    "a doorbell that takes whatever it names",
    "I4",
    "shared/jobs/claims.py",
    "WHERE id = :id AND {READY}",
    "WHERE id = :id",
)
