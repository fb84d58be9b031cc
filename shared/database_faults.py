"""What asyncpg raises while Postgres is away, busy or full, and what clients are told of it. Nothing else knows."""

from __future__ import annotations

import asyncpg

from shared.errors import Unavailable

# Whatever a statement may raise. The last but one is asyncpg's own confusion over a connection that the server ended
# at the moment of its use; TimeoutError is an OSError.
FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

# Of these the ones that no second try mends: a statement or a value of ours is wrong.
BUGS = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.CardinalityViolationError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.PLPGSQLError,
)
BUSY = (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)


class NoConnection(TimeoutError):
    """All connections of the pool were in use for too long."""


def is_away(error: BaseException) -> bool:
    """Whether a later try may well succeed, so that 503 is the truth and no bug of ours is hidden by it."""
    return isinstance(error, FAULTS) and not isinstance(error, BUGS)


def refusal(error: BaseException) -> Unavailable | None:
    """What the client is told; None for what is no fault of the database's."""
    if not is_away(error):
        return None
    if isinstance(error, (*BUSY, NoConnection)):
        return Unavailable("The database is busy; try again.", headers={"Retry-After": "1"})
    return Unavailable("The database does not answer.", headers={"Retry-After": "2"})
