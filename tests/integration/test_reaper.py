"""The reaper's patience after its own start."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, text

from services.coordinator import reaper
from shared.database import open_database
from shared.events import EventPublisher
from shared.ids import new_id
from shared.jobs.claims import claim
from shared.settings import Settings
from tests.platform import wait_until
from tests.toys.family import TOY


def test_the_living_may_prolong_their_leases_first(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All leases may have run out while coordinators were away, or while Postgres was."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings, job, clock = Settings(), new_id(), SimpleNamespace(now=0.0)
    monkeypatch.setattr(reaper, "time", SimpleNamespace(monotonic=lambda: clock.now))
    engine, events = open_database(settings.database_url, pool_size=1), EventPublisher(settings.redis_url)
    new = "INSERT INTO jobs (id, owner, family, operation, input, turn) VALUES (:id, 'ann', 'toy', 'toy.play', '{}', 1)"
    with engine.begin() as db:
        db.execute(text(new), {"id": job})
        assert claim(db, job, "host-1/2", 60)
        db.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '1 s'"))

    def state() -> str:
        with engine.begin() as db:
            return str(db.execute(text("SELECT state FROM jobs")).scalar_one())

    def after(seconds: float) -> str:
        clock.now = seconds
        judge.round()
        return state()

    judge = reaper.Reaper(settings, {"toy": TOY}, engine, events)
    lease = settings.lease_seconds
    wait_until(lambda: _is_old(engine, lease), what="a Postgres that is older than a lease")
    assert after(lease - 0.1) == "running"
    assert after(lease) == "queued"
    events.close()
    engine.dispose()


def _is_old(engine: Engine, seconds: float) -> bool:
    with engine.begin() as db:
        old = "SELECT pg_postmaster_start_time() < now() - make_interval(secs => :seconds)"
        return bool(db.execute(text(old), {"seconds": seconds}).scalar_one())
