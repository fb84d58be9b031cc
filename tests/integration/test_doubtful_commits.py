"""A commit whose answer is lost while it is under way: the job may come after any look for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg2
import pytest

from tests.faults.proxy import Link, Network
from tests.forms import GOOD, MULTIPART
from tests.integration.test_ready import through
from tests.platform import Platform, wait_until

# A disk that takes two seconds for a commit.
SLOW_COMMIT = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slowly();
"""
COMMITTING = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'commit%' AND wait_event = 'PgSleep'"


@pytest.fixture
def way(database_url: str) -> Iterator[Link]:
    """The gateway's to Postgres."""
    with closing(Network()) as network:
        yield network.link(urlsplit(database_url).port or 0)


@pytest.fixture
def gateway(environment: dict[str, str], way: Link, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    behind = {"DATABASE_URL": through(way, environment["DATABASE_URL"])}
    platform = Platform(environment | behind, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


def test_the_files_of_a_job_that_comes_late_are_there(
    gateway: Platform, way: Link, database_url: str, environment: dict[str, str]
) -> None:
    headers = {"Content-Type": MULTIPART, "Idempotency-Key": "slow"}
    answers: list[httpx.Response] = []
    posting = threading.Thread(
        target=lambda: answers.append(gateway.client.post("/toys/stamp", content=GOOD, headers=headers))
    )
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def value(question: str) -> int:
            cursor.execute(question)
            return int(cursor.fetchall()[0][0])

        cursor.execute(SLOW_COMMIT)
        posting.start()
        wait_until(lambda: value(COMMITTING), what="the commit")
        way.reset()
        posting.join()
        assert answers[0].status_code == 503
        wait_until(lambda: value("SELECT count(*) FROM jobs"), what="the job")
    again = gateway.client.post("/toys/stamp", content=GOOD, headers=headers)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    kept = Path(urlsplit(environment["STORAGE_URL"]).path, "results", "anonymous", again.json()["job_id"], "input")
    assert [file.name for file in kept.iterdir()] == ["picture"]
