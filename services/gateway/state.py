"""What the gateway's routes share: connections and the services over them. Made once a process, in `lifespan.py`."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg
import redis.asyncio as redis

from services.gateway.auth.accounts import Accounts
from services.gateway.catalog import Catalog
from services.gateway.limits.limiter import Limiter
from services.gateway.metrics.counters import Counters
from services.gateway.notifier import Notifier
from services.gateway.storage_watch import StorageWatch
from services.gateway.waiting import Waiting
from shared.fleet.queries import FleetQueries
from shared.jobs.queries import JobQueries
from shared.jobs.submissions import Submitter
from shared.settings import Settings
from shared.storage.interface import Storage
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
    fleet: FleetQueries
    catalog: Catalog
    waiting: Waiting
    notifier: Notifier
    counters: Counters
    accounts: Accounts | None  # None while authentication is off
    limiter: Limiter | None  # None while requests are not limited
    targets: Targets
    webhooks: Webhooks
    deliveries: Deliveries
    draining: bool = False
