"""Every move of every job, written down by a trigger of the tests' own: what the product does not keep."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.faults.servers import Postgres

# With the rights of the tables' owner, because the gateway's role may not write here.
TRIGGER = """
CREATE TABLE IF NOT EXISTS moves (
    number bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), job uuid NOT NULL,
    verb text NOT NULL, before text, state text, attempt_before integer, attempt integer, lease_owner text,
    result_attempt integer, changed boolean, deleted boolean
);
CREATE OR REPLACE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO moves (job, verb, state, attempt) VALUES (NEW.id, TG_OP, NEW.state, NEW.attempt);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO moves (job, verb, before, deleted) VALUES (OLD.id, TG_OP, OLD.state, OLD.deleted_at IS NOT NULL);
    ELSE
        INSERT INTO moves (job, verb, before, state, attempt_before, attempt, lease_owner, result_attempt, changed)
        VALUES (NEW.id, TG_OP, OLD.state, NEW.state, OLD.attempt, NEW.attempt, NEW.lease_owner, NEW.result_attempt,
            (OLD.result_attempt, OLD.output, OLD.manifest, OLD.error, OLD.finished_at)
                IS DISTINCT FROM (NEW.result_attempt, NEW.output, NEW.manifest, NEW.error, NEW.finished_at));
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS note_move ON jobs;
CREATE TRIGGER note_move AFTER INSERT OR DELETE OR UPDATE
    OF state, attempt, lease_owner, result_attempt, output, manifest, error, finished_at ON jobs
    FOR EACH ROW EXECUTE FUNCTION note_move();
"""


@dataclass(frozen=True, slots=True)
class Move:
    """One statement's effect on one job's row."""

    number: int
    at: datetime
    job: str
    verb: str
    before: str | None
    state: str | None
    attempt_before: int | None
    attempt: int | None
    lease_owner: str | None
    result_attempt: int | None
    changed: bool | None
    deleted: bool | None

    def __str__(self) -> str:
        attempts = f"attempt {self.attempt_before} → {self.attempt}"
        return f"{self.at:%H:%M:%S.%f} {self.verb} {self.before} → {self.state}, {attempts}, {self.lease_owner}"


def install(postgres: Postgres) -> None:
    """Write moves down from now on."""
    with postgres.cursor() as cursor:
        cursor.execute(TRIGGER)


def moves(postgres: Postgres, jobs: list[str]) -> dict[str, list[Move]]:
    """The moves of these jobs, in order."""
    found: dict[str, list[Move]] = {job: [] for job in jobs}
    columns: list[Any] = postgres.rows(
        "SELECT number, at, job::text, verb, before, state, attempt_before, attempt, lease_owner, result_attempt, "
        "changed, deleted FROM moves WHERE job = ANY(%s::uuid[]) ORDER BY number",
        jobs,
    )
    for row in columns:
        found[row[2]].append(Move(*row))
    return found
