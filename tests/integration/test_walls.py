"""The second wall: what Postgres keeps from a gateway that forgets to name the owner (docs/decisions/0004)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import psycopg2
import pytest
from psycopg2 import errors
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

import shared.accounts.table
import shared.breakers.table
import shared.catalog.table
import shared.fleet.table
import shared.jobs.table
import shared.uploads.table
import shared.usage.table
import shared.webhooks.table  # noqa: F401
from services.gateway.app import make_app
from shared import wall
from shared.accounts.users import Users
from shared.database import Base, open_database
from shared.ids import new_id
from shared.jobs import queries
from shared.settings import Settings
from shared.wall import ROLE, acting_for, managing_accounts, open_walled
from tests.accounts import PASSWORD, SECRET
from workers.families import families

# A table with such a column holds somebody's rows, and so does one that refers to it.
OWNED = {"owner", "user_id", "job_id"}
# Such tables that have no wall, and why.
OPEN: dict[str, str] = {}
ANN, BOB = (f"0199a7f0-0000-7000-8000-0000000000{owner}" for owner in ("aa", "bb"))
JOBS = {ANN: str(new_id()), BOB: str(new_id())}
# A row of the owner's, for each walled table.
ROWS = {
    "users": """INSERT INTO users (id, username, email, full_name, password_hash)
        VALUES (:owner, :owner, :owner, 'A person', 'a hash')""",
    "jobs": """INSERT INTO jobs (id, owner, family, operation, input, turn)
        VALUES (:job, :owner, 'toy', 'toy.play', '{}', 1)""",
    "idempotency_keys": """INSERT INTO idempotency_keys (owner, key, fingerprint, job_id)
        VALUES (:owner, 'key', 'a fingerprint', :job)""",
    "arriving_files": "INSERT INTO arriving_files (job_id, owner) VALUES (:job, :owner)",
    "webhooks": "INSERT INTO webhooks (id, owner, url, events) VALUES (:job, :owner, 'https://x.example', '{}')",
    "webhook_secrets": "INSERT INTO webhook_secrets (id, owner, secret) VALUES (:job, :owner, 'a secret')",
    "job_webhooks": "INSERT INTO job_webhooks (job_id, owner, url, events) VALUES (:job, :owner, 'https://x', '{}')",
    "deliveries": """INSERT INTO deliveries (owner, job_id, url, type, destination, data)
        VALUES (:owner, :job, 'https://x.example', 'job.completed', 'x.example', '{}')""",
    "uploads": """INSERT INTO uploads (id, owner, content, reserved, received, expires_at)
        VALUES (:job, :owner, :job, 1, 1, now() + interval '1 day')""",
    "upload_parts": "INSERT INTO upload_parts (upload_id, start, size, key) VALUES (:job, 0, 1, 'a key')",
    "usage_now": "SELECT usage_book(:owner, 1, 1)",
    "usage_days": "INSERT INTO usage_days (owner, day, family) VALUES (:owner, '2026-01-01', 'toy')",
    "usage_requests": "INSERT INTO usage_requests (owner, day, requests) VALUES (:owner, '2026-01-01', 1)",
    "sessions": """INSERT INTO sessions (id, user_id, refresh_id, expires_at)
        VALUES (:job, :owner, :job, now() + interval '1 day')""",
    "api_keys": """INSERT INTO api_keys (id, user_id, prefix, secret_hash, name, scopes)
        VALUES (:job, :owner, :owner, 'a hash', 'a key', '{}')""",
    "model_crashes": """INSERT INTO model_crashes (job_id, owner, family, model, code)
        VALUES (:job, :owner, 'toy', 'default', 'worker_lost')""",
    "device_incidents": """INSERT INTO device_incidents (worker, host, device, kind, job_id, owner, family, model)
        VALUES (:owner, 'host', 'cpu', 'crash', :job, :owner, 'toy', 'default')""",
    "stream_tickets": """INSERT INTO stream_tickets (ticket_hash, job_id, owner, expires_at)
        VALUES (decode(md5(:owner), 'hex'), :job, :owner, now())""",
}


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    """The tables' owner, with a row of each owner's in every table."""
    engine = open_database(database_url)
    with engine.begin() as db:
        for owner in (ANN, BOB):
            for statement in ROWS.values():
                db.execute(text(statement), {"owner": owner, "job": JOBS[owner]})
    yield engine
    engine.dispose()


@pytest.fixture
def gateway_db(engine: Engine) -> Iterator[Connection]:
    """The gateway's role with every right, so that the wall stands alone. All of it is rolled back."""
    with engine.connect() as db:
        db.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}"))
        db.execute(text(f"SET LOCAL ROLE {ROLE}"))
        yield db
        db.rollback()


@pytest.fixture(scope="module")
def login_url(engine: Engine, database_url: str) -> Iterator[str]:
    """The database for a user of the gateway's own, as docs/security.md advises operators."""
    name = f"gateway_{new_id().hex}"
    with engine.begin() as db:
        db.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'word' IN ROLE {ROLE}"))
    where = urlsplit(database_url)
    yield f"postgresql://{name}:word@{where.hostname}:{where.port}{where.path}"
    with engine.begin() as db:
        db.execute(text(f"DROP ROLE {name}"))


def show(db: Connection, *owners: str) -> None:
    db.execute(text("SELECT set_config('atelier.owners', :owners, true)"), {"owners": f"{{{','.join(owners)}}}"})


def run(url: str, work: Callable[[asyncpg.Pool], Awaitable[Any]], size: int = 1) -> Any:
    """The coroutine with a pool of the gateway's."""

    async def with_pool() -> Any:
        async with open_walled(url, name="test", size=size) as pool:
            return await work(pool)

    return asyncio.run(with_pool())


def walled(engine: Engine) -> set[str]:
    with engine.connect() as db:
        tables = "SELECT relname FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid WHERE relrowsecurity"
        return set(db.execute(text(tables)).scalars())


def test_every_table_with_owners_has_a_wall(engine: Engine) -> None:
    tables = Base.metadata.tables
    owned = {"users"} | {name for name, table in tables.items() if OWNED & set(table.columns.keys())}
    while more := {n for n, t in tables.items() for key in t.foreign_keys if key.column.table.name in owned} - owned:
        owned |= more
    assert owned - set(OPEN) <= walled(engine), "give the new table a wall (migrations/walls.py), or say why not (OPEN)"
    assert set(ROWS) == walled(engine), "a walled table needs its row here, so that its wall is tried"


@pytest.mark.parametrize("table", ROWS)
@pytest.mark.parametrize(("owners", "rows"), [((), 0), ((ANN,), 1), ((ANN, BOB), 2)], ids=["nobody", "one", "both"])
def test_statements_that_name_nobody_reach_the_shown_owners_rows(
    gateway_db: Connection, table: str, owners: tuple[str, ...], rows: int
) -> None:
    column = next(iter(Base.metadata.tables[table].columns.keys()))
    if owners:  # else nothing was ever set
        show(gateway_db, *owners)
    assert gateway_db.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == rows
    assert gateway_db.execute(text(f"UPDATE {table} SET {column} = {column}")).rowcount == rows
    assert gateway_db.execute(text(f"DELETE FROM {table}")).rowcount == rows


@pytest.mark.parametrize("table", ROWS)
@pytest.mark.parametrize("change", ["insert", "move"])
def test_no_row_is_made_for_another_owner(gateway_db: Connection, table: str, change: str) -> None:
    names = Base.metadata.tables[table].columns.keys()
    whose = next((name for name in ("owner", "user_id") if name in names), names[0])
    moved = f"UPDATE {table} SET {whose} = {':job' if whose == 'upload_id' else ':owner'}"
    statement = ROWS[table] if change == "insert" else moved
    show(gateway_db, ANN)
    with pytest.raises(ProgrammingError) as refused:
        gateway_db.execute(text(statement), {"owner": BOB, "job": JOBS[BOB]})
    assert "row-level security policy" in str(refused.value)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET output = '{}'",
        "UPDATE jobs SET owner = owner",
        "INSERT INTO jobs (id, owner, attempt) VALUES (:job, :owner, 1)",
        "DELETE FROM jobs",
        "UPDATE deliveries SET tries = 0",
        "UPDATE deliveries SET response = ''",
        "INSERT INTO deliveries (owner, job_id) VALUES (:owner, :job)",
        "UPDATE users SET roles = '{admin}'",
        "UPDATE users SET tier = 'enterprise'",
        "UPDATE users SET stored_bytes_quota = 0",
        "UPDATE api_keys SET scopes = '{}'",
        "UPDATE usage_now SET stored_bytes = 0",
        "SELECT FROM stream_tickets",
        "DELETE FROM workers",
        "UPDATE models SET title = 'x'",
        "INSERT INTO models (family, kind, name, title, reported_by) VALUES ('a', 'b', 'c', 'd', 'e')",
        "TRUNCATE jobs",
        "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY",
        "DROP POLICY owners ON jobs",
        "SET LOCAL row_security = off; SELECT FROM jobs",
        "SELECT FROM alembic_version",
        "CREATE TABLE public.jobs2 (id int)",
    ],
)
def test_the_gateway_may_do_what_its_statements_need_and_nothing_else(engine: Engine, statement: str) -> None:
    with engine.connect() as db:
        db.execute(text(f"SET LOCAL ROLE {ROLE}"))
        show(db, ANN)
        with pytest.raises(ProgrammingError) as refused:
            db.execute(text(statement), {"owner": ANN, "job": JOBS[ANN]})
    assert isinstance(refused.value.orig, errors.InsufficientPrivilege)


def test_what_happens_to_models_is_shown_without_whose_wish_it_is(engine: Engine) -> None:
    fetch = """INSERT INTO jobs (id, owner, family, operation, input, turn)
        VALUES (:id, :owner, 'models', 'models.download', jsonb_build_object('name', 'of-' || :owner), 1)"""
    with engine.connect() as db:
        for owner in (ANN, BOB):
            db.execute(text(fetch), {"id": str(new_id()), "owner": owner})
        db.execute(text(f"SET LOCAL ROLE {ROLE}"))
        found = db.execute(text("SELECT * FROM model_fetches()")).mappings().all()
        assert [row["name"] for row in found] == [f"of-{ANN}", f"of-{BOB}"]
        assert set(found[0]) == {"name", "operation", "state", "progress", "error_code", "created_at"}
        assert db.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 0
        db.rollback()


def test_what_looks_past_the_wall_is_for_the_gateway_only_and_finds_our_tables_first(engine: Engine) -> None:
    functions = """
    SELECT proname, proconfig::text, has_function_privilege('public', pg_proc.oid, 'EXECUTE') FROM pg_proc
    WHERE prosecdef AND pronamespace = current_schema()::regnamespace"""
    with engine.connect() as db:
        found = db.execute(text(functions)).all()
    assert found
    for name, settings, public in found:
        assert settings == '{"search_path=pg_catalog, public, pg_temp"}', name
        assert not public, name


def test_a_connection_that_is_given_back_shows_the_next_one_nothing(engine: Engine, database_url: str) -> None:
    async def work(pool: asyncpg.Pool) -> None:
        async def seen() -> int:
            return int(await pool.fetchval("SELECT count(*) FROM jobs"))

        async with acting_for(pool, [ANN, BOB]) as one:
            pid, both = one.get_server_pid(), await one.fetchval("SELECT count(*) FROM jobs")
        assert (both, await seen()) == (2, 0)
        for _ in range(2):  # the second time there is nothing to be said to Postgres
            async with acting_for(pool, [ANN]) as one:
                assert await one.fetchval("SELECT owner FROM jobs") == ANN
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with acting_for(pool, [BOB]) as one, one.transaction():
                await one.fetchval("SELECT 1 / 0")
        assert await seen() == 0
        async with acting_for(pool, [BOB]) as one:
            assert await one.fetchval("SELECT owner FROM jobs") == BOB
            assert one.get_server_pid() == pid, "all of it was one connection"
            await one.reset()
            assert await one.fetchval("SELECT current_user") == ROLE, "it survives a reset"

    run(database_url, work)


def test_a_connection_that_is_interrupted_while_it_changes_hands_is_not_used_again(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(pool: asyncpg.Pool) -> None:
        async with acting_for(pool, [ANN]) as one:
            pid = one.get_server_pid()
        slow = f"SELECT pg_sleep(60) FROM ({wall.SHOW}) shown"
        monkeypatch.setattr(wall, "SHOW", slow)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), acting_for(pool, [BOB]):
                pass
        monkeypatch.undo()
        async with acting_for(pool, [ANN]) as one:
            assert await one.fetchval("SELECT owner FROM jobs") == ANN
            assert one.get_server_pid() != pid

    run(database_url, work)


def test_admins_see_all_accounts_and_nobodys_jobs(engine: Engine, database_url: str) -> None:
    async def work(pool: asyncpg.Pool) -> None:
        async with managing_accounts(pool) as one:
            found = [await one.fetchval(f"SELECT count(*) FROM {table}") for table in ("users", "api_keys")]
            hidden = [await one.fetchval(f"SELECT count(*) FROM {table}") for table in ("jobs", "sessions")]
        assert min(found) >= 2
        assert hidden == [0, 0]
        assert await pool.fetchval("SELECT count(*) FROM users") == 0
        assert {ANN, BOB} <= {str(user.id) for user in await Users(pool).page(None, 10)}

    run(database_url, work)


@pytest.mark.parametrize("before", ["SET ROLE NONE", "RESET ROLE", "RESET ALL", "DISCARD ALL"])
def test_a_user_of_the_gateways_own_cannot_step_out_of_its_role(login_url: str, before: str) -> None:
    connection = psycopg2.connect(login_url, options=f"-c role={ROLE}")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(before)
            cursor.execute("SELECT count(*) FROM jobs")
            assert cursor.fetchone() == (0,)
            for statement in ("SET ROLE atelier", "SET SESSION AUTHORIZATION atelier", "UPDATE jobs SET output = '{}'"):
                with pytest.raises(errors.InsufficientPrivilege):
                    cursor.execute(statement)
    finally:
        connection.close()


@asynccontextmanager
async def served(environment: dict[str, str], url: str, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway in this process, so that its statements can be broken."""
    places = {"database_url": url, "redis_url": environment["REDIS_URL"], "storage_url": environment["STORAGE_URL"]}
    places["allow_data_loss"] = "true"  # of the tests' own Postgres
    app = make_app(Settings(**places, **more), families())  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        yield client


def test_a_gateway_with_a_user_of_its_own_does_all_of_its_work(environment: dict[str, str], login_url: str) -> None:
    auth = {"enable_auth": True, "secret_key": SECRET, "admin_password": PASSWORD, "rate_limits": False}

    async def work() -> None:
        async with served(environment, login_url, **auth) as client:

            async def ask(status: int, method: str, path: str, token: str = "", body: Any = None) -> Any:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                answer = await client.request(method, path, headers=headers, json=body)
                assert answer.status_code == status, f"{method} {path}: {answer.text}"
                return answer.json() if answer.content else None

            person = {"username": "carol", "email": "c@example.com", "password": PASSWORD, "full_name": "C"}
            token = (await ask(201, "POST", "/auth/register", body=person))["access_token"]
            await ask(200, "POST", "/auth/login", body={"username": "carol", "password": PASSWORD})
            assert (await ask(200, "GET", "/auth/profile", token))["user"]["username"] == "carol"
            key = (await ask(201, "POST", "/auth/generate-key", token, {"name": "a key"}))["api_key"]
            job = (await ask(202, "POST", "/toys/play", key, {}))["job_id"]
            assert (await ask(200, "GET", f"/status/{job}", key))["queue_position"] >= 1
            assert (await ask(200, "POST", f"/jobs/{job}/cancel", key))["status"] == "cancelled"
            await ask(204, "DELETE", f"/jobs/{job}", key)
            admin = {"username": "operator", "password": PASSWORD}
            operator = (await ask(200, "POST", "/auth/login", body=admin))["access_token"]
            assert "carol" in str(await ask(200, "GET", "/auth/users", operator))
            counted = (await ask(200, "GET", "/metrics", operator))["jobs"]
            assert {"family": "toy", "state": "queued"}.items() <= counted[0].items(), "over all owners"
            await ask(200, "DELETE", "/auth/users/carol", operator)
            await ask(401, "GET", f"/status/{job}", key)

    asyncio.run(work())


# Each statement without its owner, as if somebody had forgotten it.
BROKEN = {
    "STATUS": [("jobs.owner = asked.owner AND ", ""), ("id, owner,", "id, asked.owner,")],
    "RESULT": [("AND owner = $2", "AND $2::text IS NOT NULL")],
    "CANCEL": [("AND owner = $2", "AND $2::text IS NOT NULL")],
    "DELETE": [("AND owner = $2", "AND $2::text IS NOT NULL")],
    "LIST": [("owner = $1 AND", "$1::text IS NOT NULL AND")],
}
BOBS_JOBS = """
INSERT INTO jobs (id, owner, family, operation, input, turn) VALUES (:queued, :bob, 'toy', 'toy.play', '{}', 1);
INSERT INTO jobs (id, owner, family, operation, input, turn, state, attempt, result_attempt, output, finished_at)
VALUES (:ended, :bob, 'toy', 'toy.play', '{}', 1, 'completed', 1, 1, '{"said": "", "steps": 0, "files": 0}', now());
"""


@pytest.mark.parametrize("standing", [True, False], ids=["with the wall", "without it"])
def test_a_foreign_id_is_unknown_even_to_statements_that_forgot_the_owner(
    engine: Engine, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, standing: bool
) -> None:
    for name, changes in BROKEN.items():
        statement = getattr(queries, name)
        for old, new in changes:
            assert old in statement
            statement = statement.replace(old, new)
        monkeypatch.setattr(queries, name, statement)
    if not standing:  # proves that the statements are broken
        monkeypatch.setattr(wall, "ROLE", "none")
    queued, ended, bob = new_id(), new_id(), f"bob {standing}"
    with engine.begin() as db:
        db.execute(text(BOBS_JOBS), {"queued": queued, "ended": ended, "bob": bob})

    async def work() -> tuple[list[int], bool]:
        async with served(environment, environment["DATABASE_URL"]) as client:
            answers = [
                await client.get(f"/status/{queued}"),
                await client.get(f"/results/{ended}"),
                await client.post(f"/jobs/{queued}/cancel"),
                await client.delete(f"/jobs/{ended}"),
            ]
            listed = (await client.get("/jobs?limit=100")).text
            return [answer.status_code for answer in answers], str(queued) in listed

    statuses, listed = asyncio.run(work())
    assert statuses == ([404] * 4 if standing else [200, 200, 200, 204])
    assert listed is not standing
    with engine.connect() as db:
        left = db.execute(text("SELECT state, deleted_at FROM jobs WHERE owner = :bob ORDER BY turn, id"), {"bob": bob})
        assert (left.all() == [("queued", None), ("completed", None)]) is standing
