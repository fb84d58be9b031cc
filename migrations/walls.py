"""What migrations say of the second wall (docs/decisions/0004): which rows the gateway's role sees, and what it may do.

Migrations that ran are history: what they use here may get company and never changes.
"""

from __future__ import annotations

from alembic.util import CommandError
from sqlalchemy import Connection, text

GATEWAY = "atelier_gateway"

# Set for each use of a connection (shared/wall.py). Nothing set is NULL, which no row equals. The sub-select is
# evaluated once a statement; without it the list would be read anew for each row.
OWNERS = "(SELECT nullif(current_setting('atelier.owners', true), '')::text[])::text[]"
ALL_ACCOUNTS = "(SELECT current_setting('atelier.all_accounts', true)) = 'on'"

# The rows of a table that a connection is shown, by what tells whose they are.
BY_OWNER = f"owner = ANY ({OWNERS})"
BY_USER = f"user_id::text = ANY ({OWNERS})"

CREATE_ROLE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{GATEWAY}') THEN
        CREATE ROLE {GATEWAY} NOLOGIN;
        IF NOT pg_has_role(current_user, '{GATEWAY}', 'SET') THEN
            GRANT {GATEWAY} TO CURRENT_USER;
        END IF;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;  -- the migration of another database was quicker
    WHEN insufficient_privilege THEN NULL;
END $$
"""
ROLE = text("SELECT rolsuper OR rolbypassrls AS passes FROM pg_roles WHERE rolname = :role")


def make_role(db: Connection) -> None:
    """The gateway's role, which all databases of a server share; CommandError says what the operator has to run."""
    db.execute(text(CREATE_ROLE))
    role = db.execute(ROLE, {"role": GATEWAY}).one_or_none()
    if role is None:
        user = db.execute(text("SELECT quote_ident(current_user)")).scalar_one()
        raise CommandError(
            f"This database user may not create roles. Let one that may run, once for this server:\n"
            f"  CREATE ROLE {GATEWAY} NOLOGIN; GRANT {GATEWAY} TO {user};"
        )
    if role.passes:
        raise CommandError(
            f"Row-level security does not hold the role {GATEWAY}. Let a superuser run:\n"
            f"  ALTER ROLE {GATEWAY} NOSUPERUSER NOBYPASSRLS;"
        )


def wall(table: str, shown: str) -> str:
    """Whoever is not the table's owner reads and writes the `shown` rows only."""
    return f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY owners ON {table} USING ({shown});"


def no_wall(table: str) -> str:
    """The way back."""
    return f"DROP POLICY owners ON {table}; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;"


def window(schema: str, signature: str, returns: str, query: str) -> str:
    """A function for the gateway that looks past the wall, with the rights of the tables' owner.

    A query that deletes is VOLATILE; the others see what the statement sees that asks. In plpgsql, because that keeps
    its plans; the search path is fixed: the tables' `schema`, temporary tables last.
    """
    rows = returns.startswith("TABLE")
    name, volatility = signature.split("(")[0], "VOLATILE" if query.startswith("DELETE") else "STABLE"
    return f"""
CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE plpgsql {volatility} SECURITY DEFINER
SET search_path = pg_catalog, {schema}, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN {"QUERY " if rows else ""}{query if rows else f"({query})"};
END $$;
REVOKE ALL ON FUNCTION {name} FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {name} TO {GATEWAY};
"""
