"""A job's result as the synchronous reply, as an archive, or file by file."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response

from services.gateway.dependencies import unknown_job
from services.gateway.jobs.file_texts import STORED
from services.gateway.results.archive import Archive, Member
from services.gateway.results.ranges import ranged_response
from services.gateway.results.sending import sent
from services.gateway.state import GatewayState
from shared.egress.urls import without_query
from shared.errors import AtelierError, Gone, JobFailed, JobNotFinished, NotFound
from shared.family import CompletedJob, FileInput, Operation
from shared.jobs.queries import ResultView
from shared.storage.checked import read_checked
from workers.families import find_operation


async def completed(state: GatewayState, job_id: UUID, owner: str) -> ResultView:
    """The result of a completed job; 404 unknown, else as `with_result`."""
    result = await state.jobs.result(job_id, owner)
    if result is None:
        raise unknown_job()
    return with_result(result)


def with_result(result: ResultView) -> ResultView:
    """The same; raises 409 if the job is unfinished or ended without a result, 410 if that is past its time."""
    if not result.job.finished:
        raise JobNotFinished(f"The job is {result.job.state}.", headers={"Retry-After": "1"})
    if result.job.state != "completed":
        raise _no_result(result)
    if result.job.purged:
        raise Gone("The result has passed its time and is gone.")
    return result


def _no_result(result: ResultView) -> AtelierError:
    error = result.job.error or {}
    told = {"status": result.job.state, "code": error.get("code"), "attempts": result.job.attempt}
    return JobFailed(error.get("message") or f"The job was {result.job.state}.", details=told)


async def result_reply(state: GatewayState, job_id: UUID, owner: str, headers: dict[str, str]) -> Response:
    """The operation's synchronous reply."""
    return await reply_of(state, await completed(state, job_id, owner), headers)


async def reply_of(state: GatewayState, ended: ResultView, headers: dict[str, str]) -> Response:
    """The synchronous reply of a job that has ended."""
    result = with_result(ended)
    operation = find_operation(result.job.operation)
    if operation.reply_needs_files and result.manifest:
        content = await run_in_threadpool(lambda: _reply(operation, result, _read_files(state, result)))
    else:
        content = _reply(operation, result, {})
    return Response(content, 200, headers=headers, media_type="application/json")


def _reply(operation: Operation, result: ResultView, files: dict[str, bytes]) -> str:
    job = CompletedJob(str(result.job.id), result.input, result.output, files, _seconds(result))
    return json.dumps(operation.reply(job), ensure_ascii=False, allow_nan=False)


def _seconds(result: ResultView) -> float:
    began, ended = result.job.started_at, result.job.finished_at
    return (ended - began).total_seconds() if began and ended else 0.0


def _read_files(state: GatewayState, result: ResultView) -> dict[str, bytes]:
    return {entry["name"]: b"".join(_read(state, result, entry)) for entry in result.manifest}


def _read(
    state: GatewayState, result: ResultView, entry: dict[str, Any], start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    chunks = read_checked(state.storage, entry["key"], entry["size"], entry["crc32"], start, end)
    return sent(state, result.job.id, chunks)


async def archive_response(state: GatewayState, job_id: UUID, owner: str, method: str, headers: Headers) -> Response:
    """The ZIP: manifest.json first, then every file as it was stored."""
    result = await completed(state, job_id, owner)
    archive = Archive(_members(result))
    return ranged_response(
        method,
        headers,
        etag=archive.etag,
        size=archive.size,
        media_type="application/zip",
        filename=f"{job_id}.zip",
        read=lambda start, end: sent(state, job_id, archive.read(state.storage, start, end)),
    )


async def file_response(
    state: GatewayState, job_id: UUID, owner: str, name: str, method: str, headers: Headers
) -> Response:
    """One file of the result, ranged."""
    result = await completed(state, job_id, owner)
    entry = next((entry for entry in result.manifest if entry["name"] == name), None)
    if entry is None:
        raise NotFound("The result has no file of this name.")
    return ranged_response(
        method,
        headers,
        etag=f'"{entry["sha256"][:32]}"',
        size=entry["size"],
        media_type=entry["media_type"],
        filename=name.rsplit("/", 1)[-1],
        read=lambda start, end: _read(state, result, entry, start, end),
    )


def _members(result: ResultView) -> list[Member]:
    moment = result.job.finished_at or result.job.created_at
    content = json.dumps(public_manifest(result), ensure_ascii=False, indent=2).encode()
    first = _inline("manifest.json", content, moment)
    return [first, *(_stored(entry, moment) for entry in result.manifest)]


def _inline(name: str, content: bytes, moment: datetime) -> Member:
    digest = hashlib.sha256(content).hexdigest()
    return Member(name, len(content), zlib.crc32(content), digest, moment, content=content)


def _stored(entry: dict[str, Any], moment: datetime) -> Member:
    return Member(entry["name"], entry["size"], entry["crc32"], entry["sha256"], moment, key=entry["key"])


def public_manifest(result: ResultView) -> dict[str, Any]:
    """What was asked, what came out, and the checksums of the files; no storage keys."""
    shown = ("name", "media_type", "size", "sha256", "crc32")
    return {
        "job_id": str(result.job.id),
        "family": result.job.family,
        "operation": result.job.operation,
        "created_at": result.job.created_at.isoformat(),
        "finished_at": result.job.finished_at.isoformat() if result.job.finished_at else None,
        "attempt": result.job.attempt,
        "input": {name: _shown(value) for name, value in result.input.items()},
        "output": result.output,
        "files": [{key: entry[key] for key in shown} for entry in result.manifest],
    }


def _shown(value: Any) -> Any:
    """An address that a file came from loses its query: archives are passed on, signatures should not be."""
    if isinstance(value, dict) and value.keys() == FileInput.model_fields.keys():
        source = value["source"]
        return {**value, "source": without_query(source) if source and not source.startswith(STORED) else source}
    return value
