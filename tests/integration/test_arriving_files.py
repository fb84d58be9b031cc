"""Files that were stored for a job that never came are removed; those of a job stay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from services.coordinator.janitor import Janitor
from shared.database import open_database
from shared.errors import QueueFull, Unavailable
from shared.ids import new_id
from shared.jobs.artifacts import input_key
from shared.jobs.submissions import Limits, Submission, Submitter
from shared.settings import Settings
from shared.storage.interface import Storage
from shared.storage.open import open_storage
from shared.wall import open_walled
from tests.platform import wait_until


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    names = ("database_url", "redis_url", "storage_url")
    return Settings(**{name: environment[name.upper()] for name in names})


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return open_storage(settings.storage_url)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_database(settings.database_url)
    with engine.begin() as db:
        db.execute(text("TRUNCATE jobs, arriving_files CASCADE"))
    yield engine
    engine.dispose()


def submission(key: str | None = None) -> Submission:
    return Submission(
        id=new_id(),
        owner="ann",
        family="toy",
        operation="toy.stamp",
        priority=0,
        input="{}",
        deadline=3600,
        key=key,
        fingerprint=b"the same" if key else None,
    )


def a_day_passes(engine: Engine) -> None:
    with engine.begin() as db:
        db.execute(text("UPDATE arriving_files SET since = since - interval '25 hours'"))


def announced(engine: Engine) -> set[UUID]:
    with engine.connect() as db:
        return set(db.execute(text("SELECT job_id FROM arriving_files")).scalars())


def waits(engine: Engine) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'arriving_files')"
    with engine.connect() as db:
        return bool(db.execute(text(query)).scalar_one())


def test_until_its_row_is_there_a_job_may_lose_its_files(engine: Engine, settings: Settings, storage: Storage) -> None:
    """A gateway that dies at any place leaves either a job with its files, or files that the janitor finds."""
    janitor = Janitor(settings, engine, storage)

    async def work() -> dict[str, Submission]:
        async with open_walled(settings.database_url, name="test", size=2) as pool:
            submitter = Submitter(pool, Limits(0, 2), lambda _: None)
            made = {what: submission("key" if what == "late" else None) for what in ("kept", "left", "late")}
            for one in made.values():
                await submitter.announce_files(one)
                storage.put(input_key("ann", one.id, "picture"), [b"a picture"], "image/png")
            await submitter.submit(made["kept"])
            janitor.round()
            assert announced(engine) == {made["left"].id, made["late"].id}, "these may come yet"
            a_day_passes(engine)
            janitor.round()
            with pytest.raises(Unavailable, match="too long"):
                await submitter.submit(made["late"])
            again = submission("key")
            assert (await submitter.submit(again)).job_id == again.id, "its key is free"
            with pytest.raises(QueueFull):
                await submitter.submit(submission())
            return made

    made = asyncio.run(work())
    assert announced(engine) == set()
    there = {UUID(key.split("/")[2]) for key in storage.list("results/ann/")}
    assert there & {one.id for one in made.values()} == {made["kept"].id}


def test_a_commit_waits_for_the_janitor(engine: Engine, settings: Settings, storage: Storage) -> None:
    """The two never both have the files."""

    async def work() -> None:
        async with open_walled(settings.database_url, name="test", size=2) as pool:
            submitter, late = Submitter(pool, Limits(0, 0), lambda _: None), submission()
            await submitter.announce_files(late)
            a_day_passes(engine)
            with engine.begin() as db:
                db.execute(text("SELECT FROM arriving_files FOR UPDATE"))
                coming = asyncio.create_task(submitter.submit(late))
                await asyncio.to_thread(wait_until, lambda: waits(engine), 30, "the commit at its lock")
                db.execute(text("DELETE FROM arriving_files"))
            with pytest.raises(Unavailable, match="too long"):
                await coming

    asyncio.run(work())
