"""Opens what a gateway process needs, and closes it in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import redis.asyncio as redis
from fastapi import FastAPI

from services.gateway.auth.accounts import Accounts
from services.gateway.catalog import Catalog
from services.gateway.limits.limiter import Limiter
from services.gateway.metrics.counters import Counters
from services.gateway.notifier import Notifier
from services.gateway.state import GatewayState
from services.gateway.storage_watch import StorageWatch
from services.gateway.waiting import Waiting
from shared.accounts.api_keys import KeyMaker
from shared.accounts.attempts import Attempts
from shared.accounts.credentials import Credentials
from shared.accounts.passwords import Passwords
from shared.accounts.tokens import TokenSigner, derive
from shared.accounts.users import Users
from shared.fleet import ALIVE_SECONDS
from shared.fleet.queries import FleetQueries
from shared.jobs.queries import JobQueries
from shared.jobs.submissions import Limits, Submitter
from shared.settings import Settings
from shared.storage.open import open_storage
from shared.wall import open_walled
from shared.webhooks.history import Deliveries
from shared.webhooks.registry import Webhooks
from shared.webhooks.targets import Targets


@asynccontextmanager
async def gateway_state(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """The app's state for as long as it runs."""
    submit_pool, read_pool = (
        await open_walled(settings.database_url, name="atelier-gateway-submit", size=4),
        await open_walled(settings.database_url, name="atelier-gateway-read", size=settings.database_pool_size),
    )
    client = redis.Redis.from_url(settings.redis_url, socket_connect_timeout=1, socket_timeout=5)
    storage = open_storage(settings.storage_url, settings.s3_endpoint_url, settings.s3_region)
    notifier = Notifier(read_pool)
    jobs, fleet = JobQueries(read_pool), FleetQueries(read_pool, ALIVE_SECONDS)
    state = GatewayState(
        settings=settings,
        submit_pool=submit_pool,
        read_pool=read_pool,
        redis=client,
        storage=storage,
        storage_watch=StorageWatch(storage),
        submitter=Submitter(submit_pool, Limits(settings.max_live_jobs, settings.queue_size), notifier.wake),
        jobs=jobs,
        fleet=fleet,
        catalog=Catalog(fleet),
        waiting=Waiting(client, jobs),
        notifier=notifier,
        counters=Counters(),
        accounts=_accounts(settings, read_pool),
        limiter=Limiter(settings.redis_url) if settings.limits_requests else None,
        targets=Targets(settings),
        webhooks=Webhooks(read_pool, settings.max_webhooks),
        deliveries=Deliveries(read_pool),
    )
    state.waiting.start()
    await state.storage_watch.start()
    if state.accounts is not None:
        await state.accounts.ensure_admin()
    app.state.gateway = state
    _drain_on_signals(state)
    try:
        yield
    finally:
        state.draining = True
        await state.submitter.close()
        await notifier.close()
        await state.waiting.close()
        await state.storage_watch.close()
        await client.aclose()
        if state.accounts is not None:
            state.accounts.close()
        for pool in (submit_pool, read_pool):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await pool.close()


def _accounts(settings: Settings, pool: asyncpg.Pool) -> Accounts | None:
    if not settings.enable_auth:
        return None
    assert settings.secret_key is not None  # the settings see to it
    secret = settings.secret_key.get_secret_value()
    return Accounts(
        settings,
        Users(pool),
        Credentials(pool, KeyMaker(derive(secret, "api keys"))),
        Attempts(pool),
        Passwords(),
        TokenSigner(secret, settings.jwt_algorithm),
    )


def _drain_on_signals(state: GatewayState) -> None:
    """Tell waiting requests and streams when the server is asked to stop: it waits for them, they need not wait on."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def drain(received: int, frame: Any, before: Any = before) -> None:
            state.draining = True
            state.waiting.wake_all()
            if callable(before):
                before(received, frame)

        signal.signal(number, drain)
