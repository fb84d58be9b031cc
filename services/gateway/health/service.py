"""Whether the platform works: each server is asked, nothing is assumed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from services.gateway.health.set_aside import NOTHING, set_aside
from services.gateway.models.service import model_status
from services.gateway.state import GatewayState
from services.gateway.version import API_VERSION, PLATFORM_VERSION
from shared.database_faults import FAULTS, is_away
from shared.durability import Unfit, check_redis
from shared.storage.interface import StorageError

PATIENCE = 2.0  # seconds a server may take to answer
JOBS = "SELECT 1 FROM jobs LIMIT 0"  # a table that is locked says nothing
PROFILES = {
    "sd": ("status", "timestamp", "model_status"),
    "aetherist": ("status", "version", "gpu_available", "model_loaded"),
}
NOTHING_LOADED = {"loaded": False, "lora_available": False, "device": None, "model_info": None}


async def health(state: GatewayState) -> dict[str, Any]:
    """The union of the reference APIs' health keys; `checks` tells what each server answered.

    It is degraded while all servers work and a model or a device is set aside.
    """
    checks = await check_servers(state)
    models: dict[str, Any] = dict(NOTHING_LOADED, workers=[])
    aside = NOTHING
    if checks["database"]["ok"]:
        try:
            models, aside = await model_status(state), await set_aside(state)
        except FAULTS as error:  # it went away since, or somebody holds a table
            if not is_away(error):
                raise
            checks["database"] = {"ok": False, "error": type(error).__name__}
    info = models["model_info"] or {}
    healthy = all(check["ok"] for check in checks.values())
    return {
        "status": ("degraded" if any(aside.values()) else "healthy") if healthy else "unhealthy",
        "healthy": healthy,
        "version": API_VERSION,
        "platform_version": PLATFORM_VERSION,
        "timestamp": datetime.now(UTC).isoformat(),
        "timestamp_unix": time.time(),
        "gpu_available": any(str(worker["device"]).startswith("cuda") for worker in models["workers"]),
        "model_loaded": models["loaded"],
        "model_status": {key: models[key] for key in ("loaded", "lora_available", "device")}
        | {"model_info": info or None},
        "workers": len(models["workers"]),
        "checks": checks,
        **aside,
    }


async def check_servers(state: GatewayState) -> dict[str, dict[str, Any]]:
    """Ask Postgres, Redis and storage; `error` is a short word, never an address."""
    answers = await asyncio.gather(
        _check(_ask_postgres(state)),
        _check(_ask_redis(state)),
        _check(state.storage_watch.ask()),
    )
    return dict(zip(("database", "redis", "storage"), answers, strict=True))


async def _ask_postgres(state: GatewayState) -> None:
    """On both ways: what is read, and what is accepted."""
    await state.read_pool.execute(JOBS)
    if await state.submit_pool.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        raise Unfit("it takes no writes: a standby, or one that was made read-only")


async def _ask_redis(state: GatewayState) -> None:
    check_redis(await state.redis.info("memory"))


async def _check(question: Awaitable[Any]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PATIENCE):
            await question
    except TimeoutError:
        return {"ok": False, "error": "no answer in time"}
    except (StorageError, Unfit) as error:
        return {"ok": False, "error": str(error)}
    except (*FAULTS, RedisError) as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": True, "error": None}
