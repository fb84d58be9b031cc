"""Uploads: large files in one request or, by tus 1.0, in as many as it takes."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from services.gateway.auth.access import PROBE, READ_JOBS, WRITE_JOBS, allowed
from services.gateway.content_type import content_type_of
from services.gateway.dependencies import Base, Before, Owner, State
from services.gateway.jobs.file_texts import public_name
from services.gateway.responses import json_answer, problems
from services.gateway.uploads import tus
from services.gateway.uploads.receiver import unknown_upload
from services.gateway.uploads.schemas import UploadPage, UploadStatus, upload_body
from shared.errors import UnsupportedMediaType, ValidationFailed
from shared.ids import parse_id

ID = "0199a7f0-0000-7000-8000-00000000000a"
BINARY = {"type": "string", "format": "binary"}
CREATE_BODY = {
    "description": "The file, as a form or as the body itself; or nothing, with Upload-Length, to send it in parts.",
    "required": False,
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "properties": {"file": BINARY}, "required": ["file"]}},
        "application/octet-stream": {"schema": BINARY},
        tus.OFFSET_STREAM: {"schema": BINARY},
    },
}
PATCH_BODY = {"required": True, "content": {tus.OFFSET_STREAM: {"schema": BINARY}}}
REFUSALS = problems(400, 404, 409, 412, 413, 415, 460)


async def get_upload_id(
    upload_id: Annotated[str, Path(description="The id of an upload.", examples=[ID])],
) -> UUID:
    """The path's upload id; what is no id is unknown."""
    parsed = parse_id(upload_id)
    if parsed is None:
        raise unknown_upload()
    return parsed


UploadId = Annotated[UUID, Depends(get_upload_id)]
router = APIRouter(prefix="/uploads", tags=["uploads"], dependencies=[Depends(tus.speaks_tus)])


@router.post(
    "",
    status_code=201,
    response_model=UploadStatus,
    responses={
        201: {
            "description": "The upload; complete, unless it is to come in parts.",
            "headers": {"Location": {"schema": {"type": "string"}}} | tus.answers_with("Upload-Offset"),
        },
        **problems(400, 409, 412, 413, 415, 429, 460),
    },
    dependencies=allowed(WRITE_JOBS),
    openapi_extra={
        "requestBody": CREATE_BODY,
        "parameters": tus.parameters("Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Checksum"),
    },
)
async def create_upload(
    request: Request,
    state: State,
    owner: Owner,
    base: Base,
    name: Annotated[str | None, Query(max_length=200, description="The file's name, if it is the body itself.")] = None,
) -> Response:
    """Upload a file: in this request, or in parts that may be interrupted (tus 1.0, with `Upload-Length`).

    The same bytes are kept once, however often you upload them.
    """
    state.storage_watch.require()
    checksum = tus.read_checksum(request)
    if "upload-length" in request.headers or "upload-defer-length" in request.headers:
        length, (metadata, filename) = tus.wanted_length(request), tus.read_metadata(request)
        brings = tus.has_body(request)
        if brings:
            _require_offset_stream(request)
        upload = await state.uploads.begin(owner, length, filename, metadata)
        if brings:
            upload = await state.uploads.append(upload, owner, request.stream(), checksum)
    elif content_type_of(request) == tus.OFFSET_STREAM:
        raise ValidationFailed("Upload-Length is expected with the first part of an upload.", field="Upload-Length")
    else:
        upload = await state.uploads.take_whole(owner, request, public_name(name, "") if name else None, checksum)
    headers = tus.progress_headers(upload) | {"Location": f"{base}/uploads/{upload.id}"}
    return json_answer(upload_body(upload), 201, headers)


@router.options("", include_in_schema=False, dependencies=allowed(PROBE))
@router.options("/{upload_id}", include_in_schema=False, dependencies=allowed(PROBE))
async def get_capabilities(state: State) -> Response:
    """What of tus is spoken here."""
    return Response(status_code=204, headers=tus.capabilities(state.settings.max_upload_bytes))


@router.get("", response_model=UploadPage, responses=problems(400, 412), dependencies=allowed(READ_JOBS))
async def list_uploads(
    state: State,
    owner: Owner,
    before: Before,
    sha256: Annotated[
        str | None,
        Query(pattern="^[0-9a-f]{64}$", description="Only uploads of these bytes, if there are any."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Your uploads, newest first."""
    uploads = await state.uploads.table.page(owner, before, sha256, limit + 1)
    page, more = uploads[:limit], len(uploads) > limit
    return json_answer({"uploads": [upload_body(upload) for upload in page], "next": page[-1].id if more else None})


@router.get(
    "/{upload_id}", response_model=UploadStatus, responses=problems(404, 409, 412), dependencies=allowed(READ_JOBS)
)
async def get_upload(upload_id: UploadId, state: State, owner: Owner) -> Response:
    """One upload: how much of it is there, and what it is."""
    return json_answer(upload_body(await state.uploads.get(upload_id, owner)))


@router.head(
    "/{upload_id}",
    response_class=Response,
    responses={
        200: {
            "description": "Where to go on: at Upload-Offset.",
            "headers": tus.answers_with("Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata"),
        },
        **problems(404, 409, 412),
    },
    dependencies=allowed(READ_JOBS),
    openapi_extra={"parameters": tus.parameters()},
)
async def get_offset(upload_id: UploadId, state: State, owner: Owner) -> Response:
    """How many bytes are there, as headers: an interrupted upload goes on from there."""
    return Response(headers=tus.described_headers(await state.uploads.get(upload_id, owner)))


@router.patch(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    responses={
        204: {"description": "The bytes are there.", "headers": tus.answers_with("Upload-Offset")},
        **REFUSALS,
    },
    dependencies=allowed(WRITE_JOBS),
    openapi_extra={
        "requestBody": PATCH_BODY,
        "parameters": tus.parameters("Upload-Offset", "Upload-Length", "Upload-Checksum"),
    },
)
async def append(upload_id: UploadId, request: Request, state: State, owner: Owner) -> Response:
    """Send the bytes from `Upload-Offset` on. What came before a broken connection is kept; HEAD tells how much.

    Of two that write at the same place one wins, and the other gets a 409.
    """
    upload = await state.uploads.get(upload_id, owner)
    _require_offset_stream(request)
    checksum = tus.read_checksum(request)
    upload = await state.uploads.at_offset(upload, owner, request)
    upload = await state.uploads.append(upload, owner, request.stream(), checksum)
    return Response(status_code=204, headers=tus.progress_headers(upload))


@router.delete(
    "/{upload_id}",
    status_code=204,
    responses=problems(404, 412),
    dependencies=allowed(WRITE_JOBS),
)
async def delete_upload(upload_id: UploadId, state: State, owner: Owner) -> Response:
    """Forget an upload, complete or not. Jobs that use it keep their own copy."""
    if not await state.uploads.table.delete(upload_id, owner):
        raise unknown_upload()
    return Response(status_code=204)


@router.post("/{upload_id}", include_in_schema=False, dependencies=allowed(WRITE_JOBS))
async def override(upload_id: UploadId, request: Request, state: State, owner: Owner) -> Response:
    """PATCH and DELETE for clients that only have POST; they say which by `X-HTTP-Method-Override`."""
    method = request.headers.get("x-http-method-override", "").upper()
    if method == "DELETE":
        return await delete_upload(upload_id, state, owner)
    await state.uploads.get(upload_id, owner)
    if method != "PATCH":
        raise ValidationFailed("X-HTTP-Method-Override must be PATCH or DELETE.", field="X-HTTP-Method-Override")
    return await append(upload_id, request, state, owner)


def _require_offset_stream(request: Request) -> None:
    if content_type_of(request) != tus.OFFSET_STREAM:
        taken = tus.OFFSET_STREAM
        raise UnsupportedMediaType(f"Parts of an upload come as {taken}.", headers={"Accept": taken})
