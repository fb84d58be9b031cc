"""When a model is paused and a device is set aside, and how both come back, in SQL on a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from shared.breakers.devices import Place, QuarantineRule, aside, note_crash, note_fault, note_success
from shared.breakers.models import BreakerRule, Paused, tend, trip
from shared.database import open_database
from shared.ids import new_id
from shared.jobs.attempts import Attempt, Backoff
from shared.jobs.claims import claim, claim_companions, claim_next, ring
from shared.jobs.upkeep import Budget, reap_worker

BUDGET = Budget(max_crashes=2, max_failures=3, pause=0, ttl=60)
RULE = BreakerRule(jobs=3, window=600, pause=300, ttl=60)
FAULTS = QuarantineRule(faults=2, window=600, pause=300)
HERE, THERE = Place("host", "cuda:0"), Place("host", "cuda:1")


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def db(engine: Engine) -> Iterator[Connection]:
    """One transaction, rolled back: its time stands still, so tests say when things happened."""
    with engine.connect() as db:
        yield db
        db.rollback()


def add(db: Connection, model: str = "bad", owner: str = "ann", **values: Any) -> UUID:
    """A queued job."""
    given = {"id": new_id(), "owner": owner, "model": model, "batch_key": None, **values}
    insert = """INSERT INTO jobs (id, owner, family, operation, model, input, turn, batch_key)
        VALUES (:id, :owner, 'toy', 'toy.play', :model, '{}', 1, :batch_key)"""
    db.execute(text(insert), given)
    return given["id"]


def crash(db: Connection, model: str = "bad", owner: str = "ann", job: UUID | None = None, place: Place = HERE) -> UUID:
    """A job whose worker's child dies, and what its parent does then."""
    job = job or add(db, model, owner)
    worker = f"w/{new_id()}"
    assert claim(db, job, worker, 60, place) is not None
    by_device = note_crash(db, place, worker, FAULTS)
    reap_worker(db, BUDGET, worker, charge=not by_device)
    return job


def complete(db: Connection, model: str = "bad", owner: str = "ann", job: UUID | None = None) -> None:
    job = job or add(db, model, owner)
    claimed = claim(db, job, "w/1", 60)
    assert claimed is not None
    assert Attempt(job, claimed.attempt, "w/1").publish(db, {}, [], 60)


def fail_to_load(db: Connection, code: str = "model_unavailable") -> None:
    job = add(db)
    assert claim(db, job, "w/1", 60) is not None
    error = {"code": code, "message": "It does not load."}
    assert Attempt(job, 1, "w/1").retry(db, error, Backoff(3, 5, 600), 60) == "queued"


def pass_by(db: Connection, seconds: float) -> None:
    """Everything that was noted happened so much earlier."""
    earlier = f"- interval '{seconds} seconds'"
    db.execute(text(f"UPDATE model_crashes SET crashed_at = crashed_at {earlier}"))
    db.execute(text(f"UPDATE device_incidents SET happened_at = happened_at {earlier}"))
    db.execute(text(f"UPDATE quarantines SET until = until {earlier}"))
    db.execute(
        text(f"""UPDATE breakers SET opened_at = opened_at {earlier}, paused_until = paused_until {earlier},
            probed_at = probed_at {earlier}, closed_at = closed_at {earlier}""")
    )


def opened(db: Connection, model: str = "bad") -> None:
    for _ in range(3):
        crash(db, model)
    assert [paused.model for paused in trip(db, RULE)] == [model]


def charged(db: Connection, job: UUID) -> tuple[int, int]:
    row = db.execute(text("SELECT crashes, failures FROM jobs WHERE id = :id"), {"id": job}).one()
    return row.crashes, row.failures


def test_different_jobs_open_a_breaker(db: Connection) -> None:
    job = crash(db)
    crash(db, job=job)
    crash(db)
    crash(db, "good")
    assert trip(db, RULE) == [], "one job counts once, and other models' crashes not at all"
    crash(db)
    assert trip(db, RULE) == [Paused("toy", "bad", "worker_lost", 3)]
    assert trip(db, RULE) == [], "it is open"


def test_children_that_were_ended_for_a_cancel_count_for_nothing(db: Connection) -> None:
    for owner in ("ann", "bob", "eve"):
        worker = f"w/{new_id()}"
        job = add(db, owner=owner)
        assert claim(db, job, worker, 60) is not None
        db.execute(text("UPDATE jobs SET cancel_requested_at = now() WHERE id = :id"), {"id": job})
        (moved,) = reap_worker(db, BUDGET, worker)
        assert (moved.state, charged(db, job)) == ("cancelled", (0, 0))
    assert trip(db, RULE) == []


def test_models_that_do_not_load_open_it_too(db: Connection) -> None:
    for _ in range(3):
        fail_to_load(db, "gpu_oom")
    assert trip(db, RULE) == []
    for _ in range(3):
        fail_to_load(db)
    assert trip(db, RULE) == [Paused("toy", "bad", "model_unavailable", 3)]


def test_crashes_are_forgotten_after_the_window(db: Connection) -> None:
    crash(db)
    crash(db)
    pass_by(db, 601)
    crash(db)
    assert trip(db, RULE) == []
    tend(db, RULE)
    assert db.execute(text("SELECT count(*) FROM model_crashes")).scalar_one() == 1


def test_a_model_that_mostly_works_is_not_paused(db: Connection) -> None:
    for _ in range(3):
        complete(db)
        crash(db, owner="ann" if _ else "bob")
    assert trip(db, RULE) == []
    crash(db)
    assert len(trip(db, RULE)) == 1


def test_one_owners_poison_does_not_pause_what_works_for_others(db: Connection) -> None:
    complete(db, owner="bob")
    for _ in range(6):
        crash(db, owner="ann")
    assert trip(db, RULE) == []
    crash(db, owner="cleo")
    assert len(trip(db, RULE)) == 1


def test_no_jobs_means_never(db: Connection) -> None:
    crash(db)
    assert trip(db, BreakerRule(0, 600, 300, 60)) == []


def test_jobs_of_a_paused_model_wait_and_others_go_on(db: Connection) -> None:
    opened(db)
    db.execute(text("DELETE FROM jobs"))
    bad, good = add(db, batch_key="one"), add(db, "good", batch_key="one")
    assert [bell.job_id for bell in ring(db, "toy", 20, 60)] == [good]
    assert claim(db, bad, "w/1", 60) is None
    taken = claim_next(db, "toy", "w/1", 60)
    assert taken is not None
    assert taken.id == good
    assert claim_companions(db, taken, 7, "w/1", 60) == []
    assert claim_next(db, "toy", "w/1", 60) is None


def test_a_probe_that_completes_closes_it(db: Connection) -> None:
    opened(db)
    assert tend(db, RULE).probed == [], "the pause is not over"
    pass_by(db, 301)
    fresh = add(db)
    assert tend(db, RULE).probed == [("toy", "bad", str(fresh))], "not one that has crashed before"
    assert [bell.job_id for bell in ring(db, "toy", 20, 60)] == [fresh]
    complete(db, job=fresh)
    assert claim_next(db, "toy", "w/1", 60) is None, "it is not known yet"
    assert tend(db, RULE).closed == [("toy", "bad")]
    assert claim_next(db, "toy", "w/1", 60) is not None
    crash(db)
    assert trip(db, RULE) == [], "what crashed before counts no more"


def test_a_probe_that_crashes_opens_it_again(db: Connection) -> None:
    opened(db)
    pass_by(db, 301)
    probe = add(db)
    tend(db, RULE)
    crash(db, job=probe)
    assert trip(db, RULE) == [Paused("toy", "bad", "worker_lost", 3)]
    add(db)
    assert tend(db, RULE).probed == []
    assert db.execute(text("SELECT openings FROM breakers")).scalar_one() == 2


def test_a_probe_that_says_nothing_is_followed_by_another(db: Connection) -> None:
    opened(db)
    pass_by(db, 301)
    first, second = add(db), add(db)
    assert tend(db, RULE).probed == [("toy", "bad", str(first))]
    db.execute(text("UPDATE jobs SET state = 'cancelled', finished_at = now() WHERE id = :id"), {"id": first})
    assert tend(db, RULE).probed == [("toy", "bad", str(second))]


def test_a_breaker_that_nobody_needs_closes(db: Connection) -> None:
    opened(db)
    db.execute(text("DELETE FROM jobs"))
    pass_by(db, 301)
    assert tend(db, RULE).closed == []
    pass_by(db, 600)
    assert tend(db, RULE).closed == [("toy", "bad")]


def fault(db: Connection, worker: str, place: Place = HERE) -> bool:
    return note_fault(db, place, worker, add(db, "good"), FAULTS)


def test_faults_set_a_device_aside(db: Connection) -> None:
    assert not fault(db, "w/1")
    assert not fault(db, "w/1"), "a batch of jobs met one fault"
    assert not fault(db, "w/2", THERE)
    assert fault(db, "w/3")
    found = aside(db, HERE)
    assert found is not None
    assert (found.reason, found.seconds) == ("device faults", 300)
    job = add(db, "good")
    assert claim(db, job, "w/4", 60, HERE) is None
    assert claim_next(db, "toy", "w/4", 60, HERE) is None
    assert claim(db, job, "w/5", 60, THERE) is not None
    pass_by(db, 301)
    assert aside(db, HERE) is None
    assert claim_next(db, "toy", "w/4", 60, HERE) is not None
    assert fault(db, "w/6"), "it has not got better"


def test_faults_are_forgotten_after_the_window(db: Connection) -> None:
    fault(db, "w/1")
    pass_by(db, 601)
    assert not fault(db, "w/2")


def test_crashes_of_unrelated_jobs_in_a_row_set_a_device_aside(db: Connection) -> None:
    ann, bob = crash(db, "a", "ann"), crash(db, "b", "bob")
    found = aside(db, HERE)
    assert found is not None
    assert found.reason == "crashes of unrelated jobs"
    assert (charged(db, ann), charged(db, bob)) == ((1, 1), (0, 0)), "the second one is the device's"


@pytest.mark.parametrize(
    ("model", "owner"), [("b", "ann"), ("a", "bob"), ("a", "ann")], ids=["owner", "model", "owner and model"]
)
def test_what_crashes_have_in_common_spares_the_device(db: Connection, model: str, owner: str) -> None:
    crash(db, "a", "ann")
    assert charged(db, crash(db, model, owner)) == (1, 1)
    assert aside(db, HERE) is None


def test_a_job_that_completes_between_two_crashes_spares_the_device(db: Connection) -> None:
    crash(db, "a", "ann")
    note_success(db, HERE)
    crash(db, "b", "bob")
    assert aside(db, HERE) is None
