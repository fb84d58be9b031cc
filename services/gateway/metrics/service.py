"""Figures that all gateways share, from the database: live jobs by family and state, jobs of the last day, workers."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import generate_latest

from services.gateway.models.service import model_status
from services.gateway.state import GatewayState
from services.gateway.version import API_VERSION

# Over all owners, hence functions that only count (migration 0006), over partial indexes: finished jobs cost nothing.
LIVE = "SELECT family, state, n FROM jobs_live()"
OLDEST = "SELECT oldest_queued_seconds()"
WEBHOOKS = "SELECT pending, late FROM deliveries_due()"

COUNTED = ("jobs_accepted", "jobs_replayed", "http_requests", "result_bytes", "results_damaged")


async def metrics_json(state: GatewayState) -> dict[str, Any]:
    """001's keys, then what the platform counts."""
    models = await model_status(state)
    info = models["model_info"] or {}
    totals = state.counters.totals()
    return {
        "model_loaded": models["loaded"],
        "lora_available": models["lora_available"],
        "device": models["device"],
        "torch_version": info.get("torch_version"),
        "api_version": API_VERSION,
        "jobs": [dict(row) for row in await state.read_pool.fetch(LIVE)],
        "oldest_queued_seconds": await state.read_pool.fetchval(OLDEST),
        "workers": len(models["workers"]),
        **{name: totals.get(name, 0.0) for name in COUNTED},
    }


async def prometheus_lines(state: GatewayState) -> bytes:
    """The shared figures as exposition text."""
    registry = CollectorRegistry()
    jobs = Gauge("atelier_jobs", "Live jobs", ["family", "state"], registry=registry)
    for row in await state.read_pool.fetch(LIVE):
        jobs.labels(row["family"], row["state"]).set(row["n"])
    oldest = Gauge("atelier_oldest_queued_seconds", "Age of the oldest queued job", registry=registry)
    oldest.set(await state.read_pool.fetchval(OLDEST))
    webhooks = await state.read_pool.fetchrow(WEBHOOKS)
    due = Gauge("atelier_webhooks_due", "Events that could be sent now and are not yet", registry=registry)
    due.set(webhooks["pending"])
    late = Gauge("atelier_webhook_lag_seconds", "How long the oldest of them is due", registry=registry)
    late.set(webhooks["late"])
    Gauge("atelier_workers", "Live workers", registry=registry).set(len(await state.fleet.workers()))
    paused = Gauge("atelier_models_paused", "Models whose breaker is open or half-open", registry=registry)
    paused.set(len(await state.breakers.queries.open()))
    aside = Gauge("atelier_devices_quarantined", "Devices that are set aside", registry=registry)
    aside.set(len(await state.breakers.queries.quarantines()))
    return generate_latest(registry)
