"""Accepts a request as a job: read, validated, its files stored, its row committed; then it is answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.auth.access import AllowSubmit, submitter_of
from services.gateway.errors import request_id_of, validation_failed
from services.gateway.jobs.answers import Answering
from services.gateway.jobs.bodies import Choice, check_size, read_input
from services.gateway.jobs.files import RequestFiles, receive
from services.gateway.jobs.preferences import header_priority, idempotency_key, wanted_wait
from services.gateway.jobs.webhook import wanted_webhook
from services.gateway.limits.counting import count_submission
from services.gateway.limits.tiers import quotas_of
from services.gateway.state import GatewayState
from shared.accounts.credentials import Principal
from shared.errors import AtelierError, ModelPaused, OutcomeUnknown, ValidationFailed
from shared.family import Family, Operation, loaded_model
from shared.jobs.submissions import Receipt, Submission, encode_input
from shared.logging import get_logger
from shared.webhooks.registry import JobTarget

log = get_logger(__name__)


async def submit(
    request: Request,
    state: GatewayState,
    submitter: Principal | None,
    base: str,
    choices: Sequence[Choice],
    batch: str | None,
    access: AllowSubmit,
) -> Response:
    """One POST on an operation's path; `choices` are the operations that share it, `batch` is where arrays go.

    Without a `submitter` only the body can tell who asks, and `access` is asked then.
    """
    wait, limit = wanted_wait(request, state.settings.max_wait), state.settings.max_json_bytes
    async with read_input(request, choices, limit, known=submitter is not None) as (body, fitting):
        submitter = await submitter_of(request, submitter, body, access)
        _add_path_fields(request, body)
        owner = submitter.owner
        await count_submission(request, submitter)
        family, operation = _choose(fitting, body, batch)
        check_size(choices, operation, body, limit)
        files = await _received(state, operation, body)
        asked = _validated(operation, body)
        webhook = wanted_webhook(request, asked, state.targets)
        parsed = operation.resolve(asked)
        known = await state.catalog.require(family.name, operation, operation.models(parsed))
        parsed = operation.suit(parsed, known)
        state.storage_watch.require()
        submission = _submission(request, state, submitter, family, operation, parsed, body, webhook)
        answering = Answering(state, request.receive, operation, parsed, base, owner, wait, submission.deadline)
        try:
            await state.breakers.require(family.name, submission.model)
            await files.find_stored(operation, state.stored, owner)
        except (ModelPaused, ValidationFailed):
            # A retry is answered although its model is paused by now, or the upload or job that a file is from is gone.
            if receipt := await state.submitter.earlier(submission):
                return await answering.replay(receipt)
            raise
        submission.stored_bytes = files.size
        if files.copies:
            submission.input = _encoded(files.completed(parsed))
        if (named := request_id_of(request)) != str(submission.id):
            log.info("the client named the request", request_id=named, job=str(submission.id))
        return await _accept(answering, submission, files)


async def submit_as(
    request: Request,
    state: GatewayState,
    submitter: Principal,
    base: str,
    choice: Choice,
    body: Mapping[str, Any],
    wait: int,
) -> Response:
    """A job that another route makes of what it was asked; `body` is the operation's input, without files."""
    family, operation = choice
    await count_submission(request, submitter)
    parsed = operation.resolve(_validated(operation, body))
    await state.catalog.require(family.name, operation, operation.models(parsed))
    submission = _submission(request, state, submitter, family, operation, parsed, body, None)
    await state.breakers.require(family.name, submission.model)
    answering = Answering(state, request.receive, operation, parsed, base, submitter.owner, wait, submission.deadline)
    return await _accept(answering, submission, RequestFiles())


def _add_path_fields(request: Request, body: Any) -> None:
    """What the path says is part of the input; a body that says otherwise is refused."""
    for name, value in request.path_params.items():
        if isinstance(body, dict) and body.setdefault(name, value) != value:
            raise ValidationFailed(f"The address says {name} is another one.", field=name)


async def _received(state: GatewayState, operation: Operation, body: Any) -> RequestFiles:
    if not operation.files:
        return RequestFiles()
    return await run_in_threadpool(receive, operation, body, state.settings.egress_ports)


async def _accept(answering: Answering, submission: Submission, files: RequestFiles) -> Response:
    state = answering.state
    if not answering.wait:
        return await answering.at_once(await _submitted(state, submission, files), {})
    # Listen before the job exists: it may end while the commit's answer is still under way.
    async with state.waiting.watch(submission.id, submission.owner) as watch:
        receipt = await _submitted(state, submission, files)
        if not receipt.replayed:
            return await answering.when_ended(receipt, watch)
    return await answering.replay(receipt)


async def _submitted(state: GatewayState, submission: Submission, files: RequestFiles) -> Receipt:
    """The receipt of the job. Its files lie in storage before its row is there, and go if none will be."""
    if not (files.contents or files.copies):
        return await state.submitter.submit(submission)
    await state.submitter.announce_files(submission)
    await files.store(state.storage, submission.owner, submission.id)
    try:
        receipt = await state.submitter.submit(submission)
    except OutcomeUnknown:
        # The commit may be under way still, so that its row comes after any look for it: a job needs its files.
        log.warning("files of a request stay, as it may have made a job", job=str(submission.id))
        raise
    except AtelierError:
        await files.remove(state.storage, submission.owner, submission.id)
        raise
    if receipt.replayed:
        await files.remove(state.storage, submission.owner, submission.id)
    return receipt


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
    submitter: Principal,
    family: Family,
    operation: Operation,
    parsed: BaseModel,
    body: Any,
    webhook: JobTarget | None,
) -> Submission:
    key = idempotency_key(request)
    named = getattr(parsed, "priority", None)
    priority = named if named is not None else header_priority(request) or 0
    return Submission(
        id=request.scope["own_id"],
        owner=submitter.owner,
        family=family.name,
        operation=operation.name,
        priority=priority,
        input=_encoded(parsed),
        deadline=_seconds_left(operation, parsed, state.settings.deadline_seconds),
        model=loaded_model(operation, parsed),
        batch_key=_batch_key(operation, parsed),
        quotas=quotas_of(submitter, state.settings),
        key=key,
        fingerprint=_fingerprint(operation, body, priority, webhook) if key is not None else None,
        webhook=webhook,
    )


def _seconds_left(operation: Operation, parsed: BaseModel, most: float) -> float:
    limit = operation.time_limit(parsed)
    return most if limit is None else min(limit, most)


def _batch_key(operation: Operation, parsed: BaseModel) -> str | None:
    """What jobs have in common that may run as one: the operation, its models, and what it adds. An index holds it, so
    its length does not depend on the request.
    """
    key = operation.batch_key(parsed)
    if key is None:
        return None
    models = [(ref.kind, ref.name) for ref in operation.models(parsed)]
    common = json.dumps([operation.name, models, key]).encode()
    return f"{operation.name} {hashlib.sha256(common).hexdigest()[:32]}"


def _encoded(parsed: BaseModel) -> str:
    return encode_input(parsed.model_dump(mode="json"))


def _fingerprint(operation: Operation, body: Any, priority: int, webhook: JobTarget | None) -> bytes:
    """Two requests are the same if their JSON is, whatever the order of keys and the white space."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{operation.name}\n{priority}\n{webhook}\n{canonical}".encode()).digest()
