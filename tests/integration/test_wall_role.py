"""The gateway's role, which belongs to the whole server, while the migrations that need it belong to databases."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg2
import pytest
from alembic import command
from alembic.config import Config

from services.local.postgres import EmbeddedPostgres, find_binaries
from services.local.stack import ensure_database
from shared.settings import get_settings
from shared.wall import ROLE, acting_for, open_walled
from tests.platform import ROOT

JOB = "INSERT INTO jobs (id, owner, family, operation, input, turn) VALUES (gen_random_uuid(), 'ann', '', '', '{}', 1)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own, where no migration has run yet."""
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg") / "data", port=0, fsync=False)
    yield postgres.start()
    postgres.stop()


@pytest.fixture
def databases(server: str) -> Iterator[list[str]]:
    """Three empty databases on a server without the role; all is as before afterwards."""
    names = ["one", "two", "three"]
    yield [ensure_database(server, name) for name in names]
    for name in names:
        execute(server, f"DROP DATABASE {name} WITH (FORCE)")
    for role in ("gateway", "migrator", ROLE):
        execute(server, f"DROP ROLE IF EXISTS {role}")


@pytest.fixture
def migrator(server: str, databases: list[str]) -> str:
    """The first database for its owner, who is no superuser and may not create roles."""
    execute(server, "CREATE ROLE migrator LOGIN PASSWORD 'word'")
    execute(server, "ALTER DATABASE one OWNER TO migrator")
    return "postgresql://migrator:word@" + databases[0].split("@")[1]


def execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def migration(url: str) -> subprocess.Popen[str]:
    environment = os.environ | {"DATABASE_URL": url}
    return subprocess.Popen(
        [sys.executable, "-m", "migrations"], cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE
    )


def migrated(url: str) -> str:
    """What the migration complained of: nothing if it went well."""
    process = migration(url)
    complaint = process.communicate()[1]
    assert (process.returncode == 0) == (complaint == ""), complaint
    return complaint


def seen(url: str, *owners: str) -> int:
    """How many jobs a gateway with this address sees while it acts for the owners."""

    async def count() -> int:
        async with open_walled(url, name="test", size=1) as pool, acting_for(pool, owners) as connection:
            return int(await connection.fetchval("SELECT count(*) FROM jobs"))

    return asyncio.run(count())


def test_databases_that_are_migrated_at_once_share_the_role(databases: list[str]) -> None:
    running = [migration(url) for url in databases]
    assert [process.communicate()[1] for process in running] == [""] * 3
    assert [process.returncode for process in running] == [0] * 3
    for url in databases:
        execute(url, JOB)
        assert (seen(url), seen(url, "ann"), seen(url, "bob")) == (0, 1, 0)


def test_a_user_that_may_create_roles_needs_no_superuser(server: str, migrator: str) -> None:
    execute(server, "ALTER ROLE migrator CREATEROLE")
    assert migrated(migrator) == ""
    execute(migrator, JOB)
    assert (seen(migrator), seen(migrator, "ann")) == (0, 1)


def test_a_user_that_may_not_is_told_what_the_operator_has_to_run(server: str, migrator: str) -> None:
    complaint = migrated(migrator)
    assert "may not create roles" in complaint
    assert "Traceback" not in complaint
    execute(server, complaint.split(":\n")[1])
    assert migrated(migrator) == ""
    execute(migrator, JOB)
    assert (seen(migrator), seen(migrator, "ann")) == (0, 1)


def test_compose_gives_the_gateway_a_user_of_its_own(server: str, databases: list[str]) -> None:
    where = urlsplit(server)
    environment = {
        "PATH": f"{find_binaries()}:{os.environ['PATH']}",
        "PGHOST": where.hostname or "",
        "PGPORT": str(where.port),
        "PGPASSWORD": where.password or "",
        "POSTGRES_USER": where.username or "",
        "GATEWAY_POSTGRES_PASSWORD": "it's",
    }
    subprocess.run([ROOT / "deploy" / "postgres" / "gateway_user.sh"], env=environment, check=True)
    assert migrated(databases[0]) == ""
    execute(databases[0], JOB)
    gateway = databases[0].replace(f"{where.username}:{where.password}", "gateway:it's")
    assert (seen(gateway), seen(gateway, "ann")) == (0, 1)


def test_a_role_that_no_wall_holds_is_refused(server: str, databases: list[str]) -> None:
    execute(server, f"CREATE ROLE {ROLE} NOLOGIN BYPASSRLS")
    complaint = migrated(databases[0])
    assert "does not hold" in complaint
    execute(server, complaint.split(":\n")[1])
    assert migrated(databases[0]) == ""


def test_the_wall_can_be_taken_down_and_built_again(databases: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert migrated(databases[0]) == ""
    execute(databases[0], JOB)
    monkeypatch.setenv("DATABASE_URL", databases[0])
    get_settings.cache_clear()
    try:
        config = Config()
        config.set_main_option("script_location", str(ROOT / "migrations"))
        command.downgrade(config, "0006-1")
        execute(databases[0], f"GRANT SELECT ON jobs TO {ROLE}")
        assert seen(databases[0]) == 1, "without a wall"
        execute(databases[0], f"REVOKE SELECT ON jobs FROM {ROLE}")
        command.upgrade(config, "head")
    finally:
        get_settings.cache_clear()
    assert (seen(databases[0]), seen(databases[0], "ann")) == (0, 1)
