"""Results: the archive, the synchronous reply, single files."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from services.gateway.auth.access import READ_JOBS, allowed
from services.gateway.dependencies import JobId, Owner, State
from services.gateway.responses import problems
from services.gateway.results.service import archive_response, file_response, result_reply

router = APIRouter(tags=["results"], dependencies=allowed(READ_JOBS))
BINARY = {"schema": {"type": "string", "format": "binary"}}
RANGES: dict[int | str, dict[str, Any]] = {
    206: {"description": "The requested range.", "content": {"*/*": BINARY}},
    304: {"description": "The client's copy is current."},
    416: {"description": "No byte of the requested range exists."},
}


@router.api_route(
    "/results/{job_id}",
    methods=["GET"],
    response_class=Response,
    responses={
        200: {
            "description": "A ZIP of stored members, manifest.json first; or, by Accept, the synchronous reply.",
            "content": {"application/zip": BINARY, "application/json": {"schema": {"type": "object"}}},
        },
        **RANGES,
        **problems(404, 409, 410, 500),
    },
)
@router.head("/results/{job_id}", include_in_schema=False)
async def get_result(job_id: JobId, request: Request, state: State, owner: Owner) -> Response:
    """A completed job's result: a ZIP that resumes at any byte, or with `Accept: application/json` the reply."""
    if _wants_json(request.headers.get("accept", "")):
        return await result_reply(state, job_id, owner, {"Vary": "Accept"})
    response = await archive_response(state, job_id, owner, request.method, request.headers)
    response.headers["Vary"] = "Accept"
    return response


@router.api_route(
    "/results/{job_id}/files/{name:path}",
    methods=["GET"],
    response_class=Response,
    responses={200: {"description": "The file.", "content": {"*/*": BINARY}}, **RANGES, **problems(404, 409, 410, 500)},
)
@router.head("/results/{job_id}/files/{name:path}", include_in_schema=False)
async def get_file(
    job_id: JobId,
    name: Annotated[str, Path(description="A name from the manifest.", examples=["image_0.png"])],
    request: Request,
    state: State,
    owner: Owner,
) -> Response:
    """One file of the result, ranged like the archive."""
    return await file_response(state, job_id, owner, name, request.method, request.headers)


def _wants_json(accept: str) -> bool:
    """Whether JSON is named before, or instead of, ZIP."""
    for part in accept.lower().split(","):
        media_type = part.split(";")[0].strip()
        if media_type == "application/json":
            return True
        if media_type in ("application/zip", "application/*", "*/*"):
            return False
    return False
