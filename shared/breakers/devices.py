"""A device's quarantine: after faults of its own, or crashes that nothing but the device has in common.

Two crashes of one model are the model's, two of one owner are the owner's jobs' (docs/decisions/0007). Quarantine is a
row, so that it outlives the worker that a supervisor starts again at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.settings import Settings

HERE = "host = :host AND device = :device"

# A process has one end: a batch that met a fault is one incident.
NOTE = text("""
INSERT INTO device_incidents (worker, host, device, kind, job_id, owner, family, model)
SELECT :worker, :host, :device, :kind, id, owner, family, model FROM jobs WHERE id = :job
ON CONFLICT (worker) DO NOTHING
""")

SET_ASIDE = """
INSERT INTO quarantines (host, device, reason, until)
SELECT :host, :device, :reason, now() + make_interval(secs => :pause) {when}
ON CONFLICT (host, device) DO UPDATE SET reason = excluded.reason, until = excluded.until,
    since = CASE WHEN quarantines.until > now() THEN quarantines.since ELSE now() END
RETURNING device
"""
AFTER_CRASHES = text(SET_ASIDE.format(when=""))
AFTER_FAULTS = text(
    SET_ASIDE.format(
        when=f"""FROM device_incidents WHERE {HERE} AND kind = 'fault'
    AND happened_at > now() - make_interval(secs => :window) HAVING count(*) >= :faults"""
    )
)

# The job that ran alone in the child that died. Who ended a child for the wish to cancel its job says nothing of the
# device. The last crash here counts until a child has completed a job.
CRASHED = text(f"""
SELECT j.id, coalesce(j.owner <> last.owner AND (j.family, j.model) <> (last.family, last.model), false) AS by_device
FROM jobs j LEFT JOIN LATERAL (
    SELECT owner, family, model FROM device_incidents
    WHERE {HERE} AND kind = 'crash' AND happened_at > now() - make_interval(secs => :window)
    ORDER BY happened_at DESC LIMIT 1) last ON true
WHERE j.state = 'running' AND j.lease_owner = :worker AND j.batch_size = 1 AND j.cancel_requested_at IS NULL
""")

WORKS = text(f"DELETE FROM device_incidents WHERE {HERE} AND kind = 'crash'")
REMAINING = text(f"""
SELECT reason, extract(epoch FROM until - now())::float8 AS seconds FROM quarantines WHERE {HERE} AND until > now()
""")
FORGET = text("DELETE FROM device_incidents WHERE happened_at < now() - make_interval(secs => :window)")


class Place(NamedTuple):
    """A device as its workers name it, on its host."""

    host: str
    device: str


NOWHERE = Place("", "")  # is never in quarantine


@dataclass(frozen=True, slots=True)
class QuarantineRule:
    """So many faults within a window set a device aside for a pause (seconds); 0 faults: it is never set aside."""

    faults: int
    window: float
    pause: float

    @classmethod
    def of(cls, settings: Settings) -> QuarantineRule:
        """The operator's."""
        return cls(settings.quarantine_faults, settings.quarantine_window_seconds, settings.quarantine_seconds)


@dataclass(frozen=True, slots=True)
class Aside:
    """Why a device is in quarantine, and for how many seconds more."""

    reason: str
    seconds: float


def note_fault(connection: Connection, place: Place, worker: str, job: UUID, rule: QuarantineRule) -> bool:
    """A fault ended this worker's child while it ran the job; True if the device is set aside for it."""
    values = _values(place, rule) | {"worker": worker, "job": job, "kind": "fault", "reason": "device faults"}
    connection.execute(NOTE, values)
    return bool(rule.faults) and connection.execute(AFTER_FAULTS, values).first() is not None


def note_crash(connection: Connection, place: Place, worker: str, rule: QuarantineRule) -> bool:
    """A child died with the jobs that this worker still holds; True if that is the device's fault, now set aside.

    It belongs before the statement that moves the jobs on: one crash that the device is blamed for is charged to none.
    """
    values = _values(place, rule) | {"worker": worker, "kind": "crash", "reason": "crashes of unrelated jobs"}
    found = connection.execute(CRASHED, values).all()
    if len(found) != 1:
        return False
    (crashed,) = found
    connection.execute(NOTE, values | {"job": crashed.id})
    if not (crashed.by_device and rule.faults):
        return False
    connection.execute(AFTER_CRASHES, values)
    return True


def note_success(connection: Connection, place: Place) -> None:
    """A job completed here: the crashes before it are no row of crashes any more."""
    connection.execute(WORKS, place._asdict())


def aside(connection: Connection, place: Place) -> Aside | None:
    """The device's quarantine, if it is in one."""
    row = connection.execute(REMAINING, place._asdict()).one_or_none()
    return Aside(**row._mapping) if row else None


def forget_incidents(connection: Connection, rule: QuarantineRule) -> None:
    """Drop what no rule counts any more."""
    connection.execute(FORGET, asdict(rule))


def _values(place: Place, rule: QuarantineRule) -> dict[str, Any]:
    return place._asdict() | asdict(rule)
