"""Which deliveries are claimed, on a real Postgres: few at a destination, few of an owner, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, text

from shared.database import open_database
from shared.webhooks.outbox import Due, Outcome, claim, finish, forget_old

ADD = text("""
INSERT INTO deliveries (owner, type, data, url, destination)
SELECT :owner, 'job.completed', '{}', 'https://' || :place, :place FROM generate_series(1, :count)
""")
DELIVERED = Outcome("delivered", 200, "", None)


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url, pool_size=9)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _empty(engine: Engine) -> None:
    with engine.begin() as db:
        db.execute(text("TRUNCATE deliveries"))


def add(engine: Engine, owner: str, place: str, count: int) -> None:
    with engine.begin() as db:
        db.execute(ADD, {"owner": owner, "place": place, "count": count})


def take(engine: Engine, room: int = 20, per_destination: int = 2, per_owner: int = 4) -> list[Due]:
    with engine.begin() as db:
        return claim(db, room, per_destination, per_owner)


def left(db: Connection, state: str) -> int:
    return int(db.execute(text("SELECT count(*) FROM deliveries WHERE state = :state"), {"state": state}).scalar_one())


def test_a_long_backlog_takes_no_more_than_its_share(engine: Engine) -> None:
    add(engine, "heavy", "a.example", 500)
    add(engine, "heavy", "b.example", 500)
    add(engine, "heavy", "c.example", 500)
    add(engine, "light", "d.example", 1)
    first = take(engine)
    assert Counter(due.owner for due in first) == {"heavy": 4, "light": 1}
    assert max(Counter(due.destination for due in first).values()) == 2
    assert take(engine) == []
    with engine.begin() as db:
        assert finish(db, next(due for due in first if due.owner == "heavy"), DELIVERED)
    assert [due.owner for due in take(engine)] == ["heavy"]


def test_many_senders_claim_each_delivery_once_and_keep_to_the_limits(engine: Engine) -> None:
    for number in range(10):
        add(engine, f"owner {number}", f"{number}.example", 20)
    claimed: list[Due] = []

    def send(_: int) -> list[Due]:
        mine = []
        for _ in range(100):
            for due in take(engine, room=5):
                mine.append(due)
                with engine.begin() as db:
                    flying = text("SELECT count(*) FROM deliveries WHERE destination = :d AND lease_until > now()")
                    assert db.execute(flying, {"d": due.destination}).scalar_one() <= 2
                    finish(db, due, DELIVERED)
        return mine

    with ThreadPoolExecutor(8) as pool:
        for mine in pool.map(send, range(8)):
            claimed += mine
    assert len(claimed) == len({due.event_id for due in claimed}) == 200
    with engine.begin() as db:
        assert left(db, "delivered") == 200


def test_a_sender_that_lost_its_lease_changes_nothing(engine: Engine) -> None:
    add(engine, "ann", "a.example", 1)
    (late,) = take(engine)
    with engine.begin() as db:
        db.execute(text("UPDATE deliveries SET lease_until = now() - interval '1 s'"))
    (second,) = take(engine)
    assert (second.event_id, second.tries) == (late.event_id, 2)
    with engine.begin() as db:
        assert not finish(db, late, Outcome("undelivered", 500, "", "late"))
        assert finish(db, second, DELIVERED)
        assert left(db, "delivered") == 1


def test_what_waits_for_later_is_not_claimed_and_what_is_old_is_forgotten(engine: Engine) -> None:
    add(engine, "ann", "a.example", 2)
    one, other = take(engine)
    with engine.begin() as db:
        finish(db, one, Outcome("pending", 500, "", "no", pause=3600))
        finish(db, other, DELIVERED)
    assert take(engine) == []
    with engine.begin() as db:
        db.execute(text("UPDATE deliveries SET finished_at = now() - interval '2 h' WHERE state = 'delivered'"))
        forget_old(db, 3600)
        assert (left(db, "delivered"), left(db, "pending")) == (0, 1)


def test_deliveries_of_a_deleted_job_are_found_by_an_index(engine: Engine) -> None:
    """As the foreign key looks for them."""
    with engine.connect() as db:
        look = "EXPLAIN DELETE FROM ONLY deliveries WHERE job_id = '00000000-0000-0000-0000-000000000000'"
        plan = "\n".join(db.execute(text(look)).scalars())
    assert "deliveries_job" in plan, plan
