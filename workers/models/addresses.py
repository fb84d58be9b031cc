"""One file at an address: how large it is, and which version of it."""

from __future__ import annotations

from shared.egress.client import Asking, Egress
from shared.egress.errors import EgressError
from shared.egress.urls import without_query
from workers.models.hub import BUSY, SECONDS, SILENCE
from workers.models.inputs import DownloadInput
from workers.models.plan import Plan, PlannedFile, asked_for
from workers.models.progress import Progress
from workers.models.rules import LORA
from workers.models.selection import LORA_FILE, ONNX_FILE
from workers.runtime.fetching import FetchFailed, FetchRefused

MAX_BYTES = 1 << 62  # the request's own limit is looked at when the plan is


def plan_address(egress: Egress, request: DownloadInput, progress: Progress) -> Plan:
    """What to fetch; raises FetchRefused and FetchFailed. The body is not read."""
    asking = Asking(seconds=SECONDS, silence=SILENCE, watch=progress.tell)
    try:
        with egress.get(request.model_id, MAX_BYTES, asking) as answer:
            if answer.status >= 500 or answer.status in BUSY:
                raise FetchFailed(f"model_id: The address answered with status {answer.status}.")
            if answer.status != 200:
                raise FetchRefused(f"model_id: The address answered with status {answer.status}.")
            length, version = answer.headers.get("content-length", ""), answer.headers.get("etag")
    except EgressError as error:
        raise (FetchFailed if error.transient else FetchRefused)(f"model_id: {error}") from error
    if not length.isdigit():
        raise FetchRefused("model_id: The address does not say how large the file is.")
    assert request.task is not None
    place = without_query(request.model_id)
    if version and version.startswith("W/"):
        version = None  # says too little to go on by
    file = PlannedFile(
        name=LORA_FILE if request.task == LORA else ONNX_FILE,
        repository=place,
        path="",
        revision=None,
        size=int(length),
        sha256=request.sha256,
        version=version,
    )
    return Plan(asked_for(request), request.task, place, None, None, None, (file,))
