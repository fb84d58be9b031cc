"""What a client is told of an error that a statement raised."""

from __future__ import annotations

import asyncpg
import pytest

from shared.database_faults import NoConnection, refusal


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.InterfaceError("the underlying connection is closed"),
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection"),
        asyncpg.InvalidCatalogNameError('database "atelier" does not exist'),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.DiskFullError("could not extend file"),
        ConnectionResetError(),
        TimeoutError(),
        NoConnection(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_database_cannot_do_now_is_503(error: Exception) -> None:
    told = refusal(error)
    assert told is not None
    assert told.status == 503
    assert int(told.headers["Retry-After"]) > 0
    assert str(error) not in told.message or not str(error)


@pytest.mark.parametrize("kind", [asyncpg.UndefinedColumnError, asyncpg.UniqueViolationError, KeyError])
def test_a_bug_of_ours_stays_one(kind: type[Exception]) -> None:
    assert refusal(kind("x")) is None
