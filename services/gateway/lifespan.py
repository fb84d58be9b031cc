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
from redis.exceptions import RedisError

from services.gateway.auth.accounts import Accounts
from services.gateway.breakers import Breakers
from services.gateway.catalog import Catalog
from services.gateway.jobs.stored import StoredFiles
from services.gateway.limits.limiter import Limiter
from services.gateway.limits.request_tally import RequestTally
from services.gateway.metrics.counters import Counters
from services.gateway.notifier import Notifier
from services.gateway.redis_pool import open_pool
from services.gateway.state import GatewayState
from services.gateway.storage_watch import StorageWatch
from services.gateway.uploads.service import Uploads
from services.gateway.waiting import Waiting
from shared.accounts.api_keys import KeyMaker
from shared.accounts.attempts import Attempts
from shared.accounts.credentials import Credentials
from shared.accounts.passwords import Passwords
from shared.accounts.stream_tickets import StreamTickets
from shared.accounts.tokens import TokenSigner, derive
from shared.accounts.users import Users
from shared.breakers.queries import BreakerQueries
from shared.catalog.queries import CatalogQueries
from shared.durability import QUESTION, check_database, check_redis
from shared.fleet import ALIVE_SECONDS
from shared.fleet.queries import FleetQueries
from shared.jobs.queries import JobQueries
from shared.jobs.submissions import Limits, Submitter
from shared.settings import Settings
from shared.storage.open import open_storage
from shared.uploads.queries import UploadLimits, UploadQueries
from shared.usage.days import UsageDays
from shared.wall import open_walled
from shared.webhooks.history import Deliveries
from shared.webhooks.registry import Webhooks
from shared.webhooks.targets import Targets

REDIS_CONNECTIONS = 16  # a crowd that asks at one moment would leave as many open for ever
REDIS_PATIENCE = 1  # seconds: what it tells makes a status finer, and nobody waits for that


@asynccontextmanager
async def gateway_state(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """The app's state for as long as it runs."""
    submit_pool, read_pool = (
        await open_walled(settings.database_url, name="atelier-gateway-submit", size=4),
        await open_walled(settings.database_url, name="atelier-gateway-read", size=settings.database_pool_size),
    )
    patience = dict.fromkeys(("turn", "answer", "connect"), REDIS_PATIENCE)
    client = redis.Redis.from_pool(open_pool(settings.redis_url, size=REDIS_CONNECTIONS, **patience))
    check_database(await read_pool.fetchrow(QUESTION), settings)
    with contextlib.suppress(RedisError, OSError):  # it may be away; /health judges it again
        check_redis(await client.info("memory"))
    storage = open_storage(settings.storage_url, settings.s3_endpoint_url, settings.s3_region)
    notifier = Notifier(read_pool)
    jobs, fleet = JobQueries(read_pool), FleetQueries(read_pool, ALIVE_SECONDS)
    limits = Limits(
        settings.max_live_jobs, settings.queue_size, settings.purge_grace_seconds, settings.submit_turn_seconds
    )
    usage, attempts = UsageDays(read_pool), Attempts(read_pool)
    uploads = Uploads(UploadQueries(read_pool, _upload_limits(settings)), storage, settings.max_upload_bytes)
    state = GatewayState(
        settings=settings,
        submit_pool=submit_pool,
        read_pool=read_pool,
        redis=client,
        storage=storage,
        storage_watch=StorageWatch(storage),
        submitter=Submitter(submit_pool, limits, notifier.wake),
        jobs=jobs,
        uploads=uploads,
        stored=StoredFiles(jobs, uploads, storage),
        fleet=fleet,
        catalog=Catalog(CatalogQueries(read_pool)),
        breakers=Breakers(BreakerQueries(read_pool)),
        waiting=Waiting(client, jobs),
        notifier=notifier,
        counters=Counters(),
        usage=usage,
        request_tally=RequestTally(usage),
        attempts=attempts,
        stream_tickets=StreamTickets(read_pool),
        accounts=_accounts(settings, read_pool, attempts),
        limiter=Limiter(settings.redis_url) if settings.limits_requests else None,
        targets=Targets(settings),
        webhooks=Webhooks(read_pool, settings.max_webhooks),
        deliveries=Deliveries(read_pool),
    )
    state.waiting.start()
    state.request_tally.start()
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
        await state.request_tally.close()
        if state.limiter is not None:
            await state.limiter.close()
        await client.aclose()
        if state.accounts is not None:
            state.accounts.close()
        for pool in (submit_pool, read_pool):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await pool.close()


def _upload_limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        unfinished=settings.max_unfinished_uploads,
        stored_bytes=settings.max_owner_upload_bytes,
        unfinished_seconds=settings.unfinished_upload_seconds,
        complete_seconds=settings.upload_ttl_seconds,
    )


def _accounts(settings: Settings, pool: asyncpg.Pool, attempts: Attempts) -> Accounts | None:
    if not settings.enable_auth:
        return None
    assert settings.secret_key is not None  # the settings see to it
    secret = settings.secret_key.get_secret_value()
    return Accounts(
        settings,
        Users(pool),
        Credentials(pool, KeyMaker(derive(secret, "api keys"))),
        attempts,
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
