"""How a request is answered: with the 202 or, for a client that waits, with the result."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive

from services.gateway.jobs.schemas import accepted
from services.gateway.leaving import until_left
from services.gateway.results.service import reply_of
from services.gateway.state import GatewayState
from services.gateway.waiting import Watch
from shared.database_faults import FAULTS, is_away
from shared.errors import Gone, TimedOut
from shared.family import Operation
from shared.jobs.queries import ResultView
from shared.jobs.states import JobState
from shared.jobs.submissions import Receipt


@dataclass(frozen=True, slots=True)
class Answering:
    """One request on its way out: who asked for what, under which base path, and how long it waits (seconds).

    `receive` tells when the client leaves, `parsed` is the resolved input, `limit` is how long the job may take from
    its acceptance on (seconds).
    """

    state: GatewayState
    receive: Receive
    operation: Operation
    parsed: BaseModel
    base: str
    owner: str
    wait: int
    limit: float

    async def replay(self, receipt: Receipt) -> Response:
        """The answer that an earlier request made."""
        if not self.wait:
            return await self.at_once(receipt, {})
        async with self.state.waiting.watch(receipt.job_id, self.owner) as watch:
            return await self.when_ended(receipt, watch)

    async def when_ended(self, receipt: Receipt, watch: Watch) -> Response:
        """The synchronous reply, or the 202 if the job takes longer than the client waits; raises TimedOut if it takes
        longer than it may.
        """
        applied = {"Preference-Applied": f"wait={self.wait}", "Vary": "Prefer"}
        with self.state.counters.waiting.track_inprogress():
            leaving = asyncio.create_task(self._leave(watch))
            try:
                result = await self._ended(receipt, watch)
            except FAULTS as error:  # the client's patience has ended, or the database is away; the job stands
                if not is_away(error):
                    raise
                return await self.at_once(receipt, applied)
            finally:
                leaving.cancel()
        self._count(receipt)
        if result.job.state == JobState.EXPIRED:
            raise _timed_out(receipt)
        return await reply_of(self.state, result, applied | _replay_header(receipt))

    async def at_once(self, receipt: Receipt, headers: dict[str, str]) -> Response:
        """The 202 with links; a replay tells the state that the job has by now."""
        job_id, status = str(receipt.job_id), "queued"
        self._count(receipt)
        if receipt.replayed:
            job = await self.state.jobs.get(receipt.job_id, self.owner)
            if job is None:
                raise _deleted()
            status = job.state
        body = accepted(self.base, job_id, status)
        headers = headers | _replay_header(receipt) | {"Location": body["status_url"], "Retry-After": "1"}
        body |= self.operation.accepted(job_id, self.parsed)
        return Response(json.dumps(body), 202, headers=headers, media_type="application/json")

    async def _ended(self, receipt: Receipt, watch: Watch) -> ResultView:
        """The job's row once it is terminal; TimeoutError at the end of the client's patience, if it leaves, or if the
        gateway stops.

        A fresh job is not looked at before something is heard of it.
        """
        look, began = receipt.replayed, _now()
        patience, deadline = began + self.wait, began + self.limit
        while True:
            if look:
                watch.row_moved = False
                result = await self.state.jobs.result(receipt.job_id, self.owner)
                if result is None:
                    raise _deleted()
                if result.job.finished:
                    return result
                deadline = _now() + result.job.remaining
            if not await self._moved(watch, min(patience, deadline)):
                if patience < deadline:
                    raise TimeoutError
                await self._expire(receipt)
            look = True

    async def _moved(self, watch: Watch, until: float) -> bool:
        """Wait until the row has moved, or until then: False."""
        while not watch.row_moved:  # progress alone needs no look at the row
            if watch.left or self.state.draining:  # also of a job that was accepted since, which nobody wakes for it
                raise TimeoutError
            try:
                async with asyncio.timeout_at(until):
                    await watch.changed.wait()
            except TimeoutError:
                return False
            watch.changed.clear()
        return True

    async def _leave(self, watch: Watch) -> None:
        await until_left(self.receive)
        watch.left = True
        watch.changed.set()

    async def _expire(self, receipt: Receipt) -> None:
        """The time is up: raise TimedOut, unless the row says that the job was quicker."""
        ttl = self.state.settings.result_ttl_seconds
        if await self.state.jobs.expire(receipt.job_id, self.owner, ttl) is not None:
            self._count(receipt)
            await self.state.waiting.announce(receipt.job_id)
            raise _timed_out(receipt)

    def _count(self, receipt: Receipt) -> None:
        if receipt.replayed:
            self.state.counters.replayed.inc()
        else:
            self.state.counters.accepted.labels(self.operation.name).inc()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _timed_out(receipt: Receipt) -> TimedOut:
    told = {"job_id": str(receipt.job_id)}
    return TimedOut("Request timed out", details=told, headers=_replay_header(receipt))


def _deleted() -> Gone:
    """Its key outlives a deleted job, so that a late retry does not make it again."""
    return Gone("The job of this request was deleted.")


def _replay_header(receipt: Receipt) -> dict[str, str]:
    return {"Idempotent-Replayed": "true"} if receipt.replayed else {}
