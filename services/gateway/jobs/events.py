"""The event stream of one job (server-sent events, WHATWG HTML §9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from services.gateway.jobs.status import describe
from services.gateway.state import GatewayState
from shared.database_faults import FAULTS, is_away

KEEP_ALIVE = 15.0  # seconds of silence after which proxies need a sign of life
RETRY = "retry: 2000\n\n"
RECONNECT = "event: reconnect\ndata: {}\n\n"


async def status_events(state: GatewayState, job_id: UUID, owner: str, base: str) -> AsyncIterator[str]:
    """The current status, then one event for every change, until the job has ended. Who is told to reconnect asks
    again: this gateway stops, or its database is away.
    """
    yield RETRY
    with state.counters.waiting.track_inprogress():
        try:
            async for event in _followed(state, job_id, owner, base):
                yield event
        except FAULTS as error:
            if not is_away(error):
                raise
            yield RECONNECT


async def _followed(state: GatewayState, job_id: UUID, owner: str, base: str) -> AsyncIterator[str]:
    number = 0
    async with state.waiting.watch(job_id, owner) as watch:
        while True:
            job = await state.jobs.get(job_id, owner)
            if job is None:
                return
            number += 1
            yield _event(await describe(state, job, base, watch.progress), number)
            if job.finished:
                return
            async for sign in _until_changed(state, watch):
                yield sign
            if state.draining:
                yield RECONNECT
                return


async def _until_changed(state: GatewayState, watch: Any) -> AsyncIterator[str]:
    silence = 0.0
    while not watch.changed.is_set() and not state.draining:
        try:
            async with asyncio.timeout(1.0):
                await watch.changed.wait()
        except TimeoutError:
            silence += 1.0
            if silence >= KEEP_ALIVE:
                silence = 0.0
                yield ": keep-alive\n\n"
    watch.changed.clear()


def _event(status: dict[str, Any], number: int) -> str:
    return f"id: {status['attempt']}-{number}\nevent: status\ndata: {json.dumps(status)}\n\n"
