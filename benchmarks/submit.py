"""POST → durable 202 at 1, 16 and 64 connections, beside a bare route, the usual tutorial and Procrastinate."""

from __future__ import annotations

from typing import Any

from benchmarks.load import measure
from benchmarks.servers import backing, execute, gateway, plain_app
from benchmarks.table import row

BODY = {
    "prompt": "a large red circle on a blue background",
    "negative_prompt": "",
    "num_inference_steps": 20,
    "guidance_scale": 7.5,
    "width": 512,
    "height": 512,
    "seed": 42,
}
CONNECTIONS = (1, 16, 64)
CATALOG = """
INSERT INTO models (family, kind, name, title, reported_by) VALUES ('image', 'model', 'house-shapes', 'House', 'bench')
ON CONFLICT DO NOTHING
"""


def bench_submit(seconds: float) -> dict[str, Any]:
    """Each server alone; Atelier before and after the others, because machines drift."""
    figures: dict[str, Any] = {}
    with backing() as environment:
        execute(environment, CATALOG)
        rounds = [
            ("bare FastAPI route (stores nothing)", lambda: plain_app(environment, "benchmarks.bare:app")),
            ("Atelier", lambda: _atelier(environment)),
            ("tutorial (SQLAlchemy + Celery delay)", lambda: plain_app(environment, "benchmarks.tutorial.app:app")),
            ("FastAPI + Procrastinate", lambda: plain_app(environment, "benchmarks.procrastinate_app:app")),
            ("Atelier, again", lambda: _atelier(environment)),
        ]
        for name, server in rounds:
            with server() as url:
                measure("POST", f"{url}/generate", BODY, 16, 1)  # warm up
                for connections in CONNECTIONS:
                    load = measure("POST", f"{url}/generate", BODY, connections, seconds)
                    figures[f"{name}, {connections}"] = row(f"{name}, {connections} conn.", load)
    return figures


def _atelier(environment: dict[str, str]) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def only_url():  # type: ignore[no-untyped-def]
        with gateway(environment) as (url, _):
            yield url

    return only_url()
