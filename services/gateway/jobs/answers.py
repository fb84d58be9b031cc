"""How a request is answered: with the 202 or, for a client that waits, with the result."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.responses import Response

from services.gateway.jobs.schemas import accepted
from services.gateway.results.service import reply_of
from services.gateway.state import GatewayState
from services.gateway.waiting import Watch
from shared.errors import Gone
from shared.family import Operation
from shared.jobs.queries import ResultView
from shared.jobs.submissions import Receipt


@dataclass(frozen=True, slots=True)
class Answering:
    """One request on its way out: who asked for what, under which base path, and how long it waits (seconds).

    `parsed` is the resolved input.
    """

    state: GatewayState
    operation: Operation
    parsed: BaseModel
    base: str
    owner: str
    wait: int

    async def replay(self, receipt: Receipt) -> Response:
        """The answer that an earlier request made."""
        if not self.wait:
            return await self.at_once(receipt, {})
        async with self.state.waiting.watch(receipt.job_id, self.owner) as watch:
            return await self.when_ended(receipt, watch)

    async def when_ended(self, receipt: Receipt, watch: Watch) -> Response:
        """The synchronous reply, or the 202 if the job takes longer than the client waits."""
        applied = {"Preference-Applied": f"wait={self.wait}", "Vary": "Prefer"}
        with self.state.counters.waiting.track_inprogress():
            try:
                async with asyncio.timeout(self.wait):
                    result = await self._ended(receipt, watch)
            except TimeoutError:
                return await self.at_once(receipt, applied)
        self._count(receipt)
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
        """The job's row once it is terminal. A fresh job is not looked at before something is heard of it."""
        look = receipt.replayed
        while True:
            if look:
                watch.row_moved = False
                result = await self.state.jobs.result(receipt.job_id, self.owner)
                if result is None:
                    raise _deleted()
                if result.job.finished:
                    return result
            while not watch.row_moved:  # progress alone needs no look at the row
                await watch.changed.wait()
                watch.changed.clear()
                if self.state.draining:
                    raise TimeoutError
            look = True

    def _count(self, receipt: Receipt) -> None:
        if receipt.replayed:
            self.state.counters.replayed.inc()
        else:
            self.state.counters.accepted.labels(self.operation.name).inc()


def _deleted() -> Gone:
    """Its key outlives a deleted job, so that a late retry does not make it again."""
    return Gone("The job of this request was deleted.")


def _replay_header(receipt: Receipt) -> dict[str, str]:
    return {"Idempotent-Replayed": "true"} if receipt.replayed else {}
