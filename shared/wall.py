"""The second wall (docs/decisions/0004): Postgres shows a gateway's connection the rows of the owners it acts for.

The first wall is the owner that every statement names; this one holds where a statement forgets. A connection that is
taken without naming anybody is shown nobody's rows, whoever had it before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias

import asyncpg

from shared.database import PATIENCE, SESSION
from shared.database_faults import NoConnection
from shared.keepalive import keep_alive

CONNECTING = 5.0  # seconds
TURN = CONNECTING + 1  # seconds for a connection of the pool, a new one if need be
ROLE = "atelier_gateway"  # made by migration 0006; no wall holds the tables' owner

# Postgres writes the list itself, so no owner's name needs quoting here.
SHOW = """
SELECT set_config('atelier.owners', $1::text[]::text, false), set_config('atelier.all_accounts', $2, false)
"""
SHOW_IN_TRANSACTION = "SELECT set_config('atelier.owners', $1::text[]::text, true)"


class Sight(NamedTuple):
    """Whose rows are shown; `all_accounts` adds every account (not its jobs, and not its sessions)."""

    owners: tuple[str, ...] = ()
    all_accounts: bool = False


NOBODY = Sight()
# A gateway does nothing but SQL within a transaction: one that stands still blocks its owner's submits no longer.
STANDSTILL = {"idle_in_transaction_session_timeout": "10000"}
Taken: TypeAlias = AbstractAsyncContextManager[asyncpg.Connection]
_wanted: ContextVar[Sight] = ContextVar("wanted", default=NOBODY)


class WalledConnection(asyncpg.Connection):  # type: ignore[misc]
    """Knows what it is shown, so that the same owner again costs no round trip."""

    _sight = NOBODY

    def __init__(self, protocol: Any, transport: asyncio.Transport, *more: Any) -> None:
        super().__init__(protocol, transport, *more)
        keep_alive(transport.get_extra_info("socket"), PATIENCE)  # asyncpg itself asks nothing of TCP

    async def look(self, sight: Sight) -> None:
        """Show this from now on. A failure leaves a connection that must be closed, as the pool does."""
        if sight != self._sight:
            await self.execute(SHOW, list(sight.owners), "on" if sight.all_accounts else "off")
            self._sight = sight


def open_walled(url: str, *, name: str, size: int) -> asyncpg.Pool:
    """A pool of at most `size` connections, all of them behind the wall; `name` is what Postgres calls them.

    The role is part of the connection's start and so survives every reset. The database's user must be a member of
    it, or a superuser.
    """
    return asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        command_timeout=10,
        timeout=CONNECTING,
        connection_class=WalledConnection,
        setup=_look,
        reset=_nothing,
        server_settings={"application_name": name, "role": ROLE, **SESSION, **STANDSTILL},
    )


def acting_for(pool: asyncpg.Pool, owners: Iterable[str]) -> Taken:
    """A connection that is shown the rows of these owners."""
    return _taken(pool, Sight(tuple(sorted(set(owners)))))


def managing_accounts(pool: asyncpg.Pool) -> Taken:
    """A connection that is shown all accounts and nobody's jobs: for what admins do to accounts, and nothing else."""
    return _taken(pool, Sight(all_accounts=True))


async def act_for(connection: asyncpg.Connection, owner: str) -> None:
    """Show this owner's rows until the transaction ends, for an owner who was found in it."""
    await connection.execute(SHOW_IN_TRANSACTION, [owner])


@asynccontextmanager
async def _taken(pool: asyncpg.Pool, sight: Sight) -> AsyncIterator[asyncpg.Connection]:
    before = _wanted.set(sight)
    try:
        async with asyncio.timeout(TURN):
            connection = await pool.acquire()
    except TimeoutError:
        raise NoConnection(f"no connection within {TURN} s") from None
    finally:
        _wanted.reset(before)
    try:
        yield connection
    finally:
        await pool.release(connection)


async def _look(connection: WalledConnection) -> None:
    """Whenever the pool gives a connection away, also to a statement that goes straight to the pool."""
    await connection.look(_wanted.get())


async def _nothing(_: asyncpg.Connection) -> None:
    """The sight is set where a connection is taken, so giving it back needs no round trip."""
