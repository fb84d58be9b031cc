"""Accepts a request as a job, and answers with the 202 or, for a client that waits, with the result."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.auth.access import SUBMIT, authentication_required
from services.gateway.auth.accounts import Accounts, invalid_token
from services.gateway.errors import validation_failed
from services.gateway.jobs.forms import FORM, Form, read_form
from services.gateway.jobs.preferences import header_priority, idempotency_key, wanted_wait
from services.gateway.jobs.schemas import accepted
from services.gateway.json_reader import read_body, read_json
from services.gateway.results.service import reply_of
from services.gateway.state import GatewayState
from services.gateway.waiting import Watch
from shared.accounts.credentials import Principal
from shared.errors import AtelierError, Gone, UnsupportedMediaType, ValidationFailed
from shared.family import Family, Operation
from shared.ids import new_id
from shared.jobs.queries import ResultView
from shared.jobs.submissions import Receipt, Submission, encode_input

Choice = tuple[Family, Operation]


async def submit(
    request: Request,
    state: GatewayState,
    submitter: Principal | None,
    base: str,
    choices: Sequence[Choice],
    batch: str | None,
) -> Response:
    """One POST on an operation's path; `choices` are the operations that share it, `batch` is where arrays go.

    Without a `submitter` only the body can tell who asks.
    """
    wait = wanted_wait(request, state.settings.max_wait)
    forms = [choice for choice in choices if choice[1].multipart]
    if submitter is None and (_media_type(request) == FORM or len(forms) == len(choices)):
        raise authentication_required()  # before anything of a form is read
    async with read_form(request, forms[0][1].multipart if forms else None) as form:
        body = form.body if form else read_json(await _json_body(request, state.settings.max_json_bytes, choices))
        if state.accounts is not None:
            submitter = await _submitter(state.accounts, submitter, body)
        assert submitter is not None
        owner = submitter.owner
        family, operation = _choose(forms if form else choices, body, batch)
        parsed = operation.resolve(_validated(operation, body))
        await state.catalog.require(family.name, operation.models(parsed))
        state.storage_watch.require()
        submission = _submission(request, state, owner, family, operation, parsed, body)
        return await _accept(state, operation, base, owner, submission, wait, form)


async def _accept(
    state: GatewayState,
    operation: Operation,
    base: str,
    owner: str,
    submission: Submission,
    wait: int,
    form: Form | None,
) -> Response:
    if not wait:
        receipt = await _submitted(state, submission, form)
        return await _answer(state, operation, base, receipt, owner, {})
    # Listen before the job exists: it may end while the commit's answer is still under way.
    async with state.waiting.watch(submission.id) as watch:
        receipt = await _submitted(state, submission, form)
        if not receipt.replayed:
            return await _wait_for(state, operation, base, receipt, owner, wait, watch)
    async with state.waiting.watch(receipt.job_id) as watch:
        return await _wait_for(state, operation, base, receipt, owner, wait, watch)


async def _submitted(state: GatewayState, submission: Submission, form: Form | None) -> Receipt:
    """The receipt of the job. The files of a form lie in storage before its row is there, and go if none was made."""
    if form is None:
        return await state.submitter.submit(submission)
    await form.store(state.storage, submission.owner, submission.id)
    try:
        receipt = await state.submitter.submit(submission)
    except AtelierError:
        # A commit whose answer was lost may have happened: only the row knows.
        if await state.jobs.get(submission.id, submission.owner) is None:
            await form.remove(state.storage, submission.owner, submission.id)
        raise
    if receipt.replayed:
        await form.remove(state.storage, submission.owner, submission.id)
    return receipt


async def _submitter(accounts: Accounts, known: Principal | None, body: Any) -> Principal:
    """Who asks, by the headers or by the body's `token`, which is taken out: it is no part of the input."""
    token = body.pop("token", None) if isinstance(body, dict) else None
    if token is None:
        if known is None:
            raise authentication_required()
        return known
    found = await accounts.authenticate(token) if isinstance(token, str) else None
    if found is None or (known is not None and known.owner != found.owner):
        raise invalid_token()
    if known is None:
        SUBMIT.check(found)
    return known or found


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "application/json").split(";")[0].strip().lower()


async def _json_body(request: Request, limit: int, choices: Sequence[Choice]) -> bytes:
    media_type = _media_type(request)
    taken = FORM if all(operation.multipart for _, operation in choices) else "application/json"
    if taken == FORM or (media_type != "application/json" and not media_type.endswith("+json")):
        raise UnsupportedMediaType(f"This address takes {taken}.", headers={"Accept": taken})
    return await read_body(request, limit)


def _choose(choices: Sequence[Choice], body: object, batch: str | None) -> Choice:
    for family, operation in choices:
        if operation.accepts(body):
            return family, operation
    if isinstance(body, list) and batch:
        raise ValidationFailed(f"A JSON object is expected here; arrays go to {batch}.", field="body")
    if len(choices) == 1:
        expected = "array" if choices[0][1].body_schema else "object"
        raise ValidationFailed(f"A JSON {expected} of this operation is expected.", field="body")
    meant = "; ".join(operation.summary for _, operation in choices)
    raise ValidationFailed(f"The body fits none of what this address does: {meant}.", field="body")


def _validated(operation: Operation, body: Any) -> BaseModel:
    try:
        return operation.input.model_validate(operation.parse(body))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        for entry in found:  # an array is wrapped as {"items": …}; the client sent no such key
            if operation.body_schema and entry["loc"][:1] == ("items",):
                entry["loc"] = entry["loc"][1:]
        raise validation_failed(found, _fields(operation.input)) from None


@lru_cache
def _fields(schema: type[BaseModel]) -> dict[str, Any]:
    """The JSON schemas of all fields by name, nested ones included."""
    whole = schema.model_json_schema()
    fields: dict[str, Any] = {}
    for part in (*whole.get("$defs", {}).values(), whole):
        fields |= part.get("properties", {})
    return fields


def _submission(
    request: Request,
    state: GatewayState,
    owner: str,
    family: Family,
    operation: Operation,
    parsed: BaseModel,
    body: Any,
) -> Submission:
    key = idempotency_key(request)
    named = getattr(parsed, "priority", None)
    priority = named if named is not None else header_priority(request) or 0
    return Submission(
        id=new_id(),
        owner=owner,
        family=family.name,
        operation=operation.name,
        priority=priority,
        input=encode_input(parsed.model_dump(mode="json")),
        deadline=state.settings.deadline_seconds,
        key=key,
        fingerprint=_fingerprint(operation, body, priority) if key is not None else None,
    )


def _fingerprint(operation: Operation, body: Any, priority: int) -> bytes:
    """Two requests are the same if their JSON is, whatever the order of keys and the white space."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{operation.name}\n{priority}\n{canonical}".encode()).digest()


async def _wait_for(
    state: GatewayState, operation: Operation, base: str, receipt: Receipt, owner: str, wait: int, watch: Watch
) -> Response:
    applied = {"Preference-Applied": f"wait={wait}", "Vary": "Prefer"}
    with state.counters.waiting.track_inprogress():
        try:
            async with asyncio.timeout(wait):
                result = await _ended(state, receipt, owner, watch)
        except TimeoutError:
            return await _answer(state, operation, base, receipt, owner, applied)
    _count(state, operation, receipt)
    return await reply_of(state, result, applied | _replay_header(receipt))


async def _ended(state: GatewayState, receipt: Receipt, owner: str, watch: Watch) -> ResultView:
    """The job's row once it is terminal. A fresh job is not looked at before something is heard of it."""
    look = receipt.replayed
    while True:
        if look:
            watch.row_moved = False
            result = await state.jobs.result(receipt.job_id, owner)
            if result is None:
                raise _deleted()
            if result.job.finished:
                return result
        while not watch.row_moved:  # progress alone needs no look at the row
            await watch.changed.wait()
            watch.changed.clear()
            if state.draining:
                raise TimeoutError
        look = True


async def _answer(
    state: GatewayState, operation: Operation, base: str, receipt: Receipt, owner: str, headers: dict[str, str]
) -> Response:
    """The 202 with links; a replay tells the state that the job has by now."""
    job_id, status = str(receipt.job_id), "queued"
    _count(state, operation, receipt)
    if receipt.replayed:
        job = await state.jobs.get(receipt.job_id, owner)
        if job is None:
            raise _deleted()
        status = job.state
    body = accepted(base, job_id, status)
    headers = headers | _replay_header(receipt) | {"Location": body["status_url"], "Retry-After": "1"}
    return Response(json.dumps(body), 202, headers=headers, media_type="application/json")


def _deleted() -> Gone:
    """Its key outlives a deleted job, so that a late retry does not make it again."""
    return Gone("The job of this request was deleted.")


def _count(state: GatewayState, operation: Operation, receipt: Receipt) -> None:
    if receipt.replayed:
        state.counters.replayed.inc()
    else:
        state.counters.accepted.labels(operation.name).inc()


def _replay_header(receipt: Receipt) -> dict[str, str]:
    return {"Idempotent-Replayed": "true"} if receipt.replayed else {}
