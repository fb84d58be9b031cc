"""What the gateway's routes share: connections and the services over them. Made once a process, in `lifespan.py`."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg
import redis.asyncio as redis

from services.gateway.auth.accounts import Accounts
from services.gateway.breakers import Breakers
from services.gateway.catalog import Catalog
from services.gateway.jobs.stored import StoredFiles
from services.gateway.limits.limiter import Limiter
from services.gateway.limits.request_tally import RequestTally
from services.gateway.metrics.counters import Counters
from services.gateway.notifier import Notifier
from services.gateway.storage_watch import StorageWatch
from services.gateway.uploads.service import Uploads
from services.gateway.waiting import Waiting
from shared.accounts.attempts import Attempts
from shared.accounts.stream_tickets import StreamTickets
from shared.fleet.queries import FleetQueries
from shared.jobs.queries import JobQueries
from shared.jobs.submissions import Submitter
from shared.settings import Settings
from shared.storage.interface import Storage
from shared.usage.days import UsageDays
from shared.webhooks.history import Deliveries
from shared.webhooks.registry import Webhooks
from shared.webhooks.targets import Targets


@dataclass(slots=True)
class GatewayState:
    """One gateway process."""

    settings: Settings
    submit_pool: asyncpg.Pool
    read_pool: asyncpg.Pool
    redis: redis.Redis
    storage: Storage
    storage_watch: StorageWatch
    submitter: Submitter
    jobs: JobQueries
    uploads: Uploads
    stored: StoredFiles
    fleet: FleetQueries
    catalog: Catalog
    breakers: Breakers
    waiting: Waiting
    notifier: Notifier
    counters: Counters
    usage: UsageDays
    request_tally: RequestTally
    attempts: Attempts
    stream_tickets: StreamTickets
    accounts: Accounts | None  # None while authentication is off
    limiter: Limiter | None  # None while requests are not limited
    targets: Targets
    webhooks: Webhooks
    deliveries: Deliveries
    draining: bool = False
