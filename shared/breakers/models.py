"""A model's breaker: open (paused), half-open (one probe is let through), closed. Written by workers and coordinators.

It opens when enough different jobs crashed the model, and more than completed with it in the same time. Where all of
those were one owner's and somebody else's job completed, the owner's jobs are at fault and it stays closed
(docs/decisions/0007).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text

from shared.jobs.claims import ORDER
from shared.settings import Settings

# What ended since a moment is found by the index of what is to be purged, whatever queues besides.
COMPLETED = """
SELECT FROM jobs j WHERE j.purged IS NULL AND j.purge_after > c.since + make_interval(secs => :ttl)
    AND j.state = 'completed' AND j.family = c.family AND j.model = c.model
"""
TRIP = text(f"""
WITH reopened AS (
    UPDATE breakers b SET paused_until = now() + make_interval(secs => :pause), probe = NULL, reason = c.code,
        openings = openings + 1
    FROM model_crashes c WHERE b.closed_at IS NULL AND c.job_id = b.probe AND c.crashed_at >= b.probed_at
    RETURNING b.family, b.model, b.reason, b.crashed_jobs
), counted AS (
    SELECT family, model, since, count(*) AS jobs, count(DISTINCT owner) AS owners, min(owner) AS owner,
        (array_agg(code ORDER BY crashed_at DESC))[1] AS code
    FROM model_crashes JOIN LATERAL (
        SELECT greatest(now() - make_interval(secs => :window), (SELECT closed_at FROM breakers b
            WHERE b.family = model_crashes.family AND b.model = model_crashes.model)) AS since) s ON crashed_at > since
    WHERE NOT EXISTS (SELECT FROM breakers b
        WHERE b.family = model_crashes.family AND b.model = model_crashes.model AND b.closed_at IS NULL)
    GROUP BY family, model, since HAVING count(*) >= :jobs
), opened AS (
    INSERT INTO breakers AS b (family, model, reason, crashed_jobs, paused_until)
    SELECT family, model, code, jobs, now() + make_interval(secs => :pause) FROM counted c
    WHERE (SELECT count(*) FROM ({COMPLETED} LIMIT c.jobs) done) < c.jobs
        AND (c.owners > 1 OR NOT EXISTS ({COMPLETED} AND j.owner <> c.owner))
    ON CONFLICT (family, model) DO UPDATE SET reason = excluded.reason, crashed_jobs = excluded.crashed_jobs,
        openings = 1, opened_at = now(), paused_until = excluded.paused_until, probe = NULL, closed_at = NULL
        WHERE b.closed_at IS NOT NULL
    RETURNING family, model, reason, crashed_jobs
)
SELECT family, model, reason, crashed_jobs FROM reopened UNION ALL SELECT * FROM opened
""")

# A half-open breaker whose model nobody has asked for during a whole window closes as well.
CLOSE = text("""
UPDATE breakers b SET closed_at = now(), probe = NULL
WHERE closed_at IS NULL AND (
    EXISTS (SELECT FROM jobs WHERE id = b.probe AND state = 'completed' AND finished_at >= b.probed_at)
    OR (probe IS NULL AND paused_until < now() - make_interval(secs => :window) AND NOT EXISTS (
        SELECT FROM jobs WHERE state = 'queued' AND family = b.family AND model = b.model)))
RETURNING family, model
""")

# A probe that ended in another way says nothing of the model, so another one is sent.
FORGET_PROBES = text("""
UPDATE breakers b SET probe = NULL
WHERE closed_at IS NULL AND probe IS NOT NULL
    AND NOT EXISTS (SELECT FROM jobs WHERE id = b.probe AND state IN ('queued', 'running'))
""")

# One that has not crashed yet says most, and is hurt least.
PROBE = text(f"""
UPDATE breakers b SET probed_at = now(), probe = (
    SELECT id FROM jobs WHERE state = 'queued' AND family = b.family AND model = b.model AND run_after <= now()
        AND cancel_requested_at IS NULL AND (deadline_at IS NULL OR deadline_at > now())
    ORDER BY crashes, {ORDER} LIMIT 1)
WHERE closed_at IS NULL AND probe IS NULL AND paused_until <= now()
RETURNING family, model, probe
""")

FORGET = text("DELETE FROM model_crashes WHERE crashed_at < now() - make_interval(secs => :window)")


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """So many different jobs within a window open a breaker for a pause (seconds); 0 jobs: none ever opens.

    `ttl` is how long results are kept.
    """

    jobs: int
    window: float
    pause: float
    ttl: float

    @classmethod
    def of(cls, settings: Settings) -> BreakerRule:
        """The operator's."""
        s = settings
        return cls(s.breaker_jobs, s.breaker_window_seconds, s.breaker_pause_seconds, s.result_ttl_seconds)


@dataclass(frozen=True, slots=True)
class Paused:
    """A model that is paused from now on, after the crash of its last job or of its probe."""

    family: str
    model: str
    reason: str
    crashed_jobs: int


def trip(connection: Connection, rule: BreakerRule) -> list[Paused]:
    """Open the breakers that crashes ask for. It belongs into the transaction that charged the jobs."""
    if not rule.jobs:
        return []
    return [Paused(**row._mapping) for row in connection.execute(TRIP, asdict(rule))]


@dataclass(frozen=True, slots=True)
class Tended:
    """What a round did: models that go on, and models that a probe (a job's id) tries now."""

    closed: list[tuple[str, str]]
    probed: list[tuple[str, str, str]]


def tend(connection: Connection, rule: BreakerRule) -> Tended:
    """Close the breakers whose probe completed, and send probes where the pause is over and jobs wait."""
    closed = [(row.family, row.model) for row in connection.execute(CLOSE, asdict(rule))]
    connection.execute(FORGET_PROBES)
    probed = [(row.family, row.model, str(row.probe)) for row in connection.execute(PROBE) if row.probe]
    connection.execute(FORGET, asdict(rule))
    return Tended(closed, probed)
