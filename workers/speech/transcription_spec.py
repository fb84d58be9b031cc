"""The operation `speech.transcribe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import AtelierError
from shared.family import CompletedJob, FileField, ModelRef, Operation
from shared.signatures import RECORDING_TYPES
from workers.speech.catalog import default_ear
from workers.speech.hearing.fitting import check_hearing
from workers.speech.transcription_schema import Transcription, TranscriptionReply, model_missing

MAX_SECONDS = 300
MAX_BYTES = 50_000_000
RECORDING = FileField(RECORDING_TYPES, MAX_BYTES, unsupported="Unsupported audio format")
SILENCE = (
    "data:audio/wav;base64,UklGRkwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YSgAAACAgICAgICAgICAgICAgICAgICAgICA"
    "gICAgICAgICAgICAgICAgICA"
)


def _missing(_: ModelRef, available: Sequence[str]) -> AtelierError:
    return model_missing(available)


def _resolved(request: Transcription) -> Transcription:
    name = request.model or request.model_name or default_ear()
    return request.model_copy(update={"model": name, "model_name": name})


def _needs(request: Transcription) -> tuple[ModelRef, ...]:
    field = "model_name" if request.model_name else "model"
    return (ModelRef("model", request.model or request.model_name or default_ear(), field),)


def _reply(job: CompletedJob) -> dict[str, Any]:
    return {"success": True, "request_id": job.id, **job.output, "transcription": job.output["text"]}


def _suited(request: Transcription, known: Mapping[str, Mapping[str, Any]]) -> Transcription:
    check_hearing(request, known)
    return request


TRANSCRIBE = Operation(
    name="speech.transcribe",
    paths=("/transcribe",),
    input=Transcription,
    reply_schema=TranscriptionReply,
    reply=_reply,
    summary="Write down what is said",
    description=f"A recording of at most {MAX_SECONDS} s becomes text, segments with times, and subtitles (transcript"
    ".json, .srt, .vtt). A form has the recording as `file` and every other field as a text part; JSON has it as "
    "`inputs`, a data URI for instance.",
    examples={"five milliseconds of silence": {"model_name": "house-ear", "inputs": SILENCE}},
    files={"file": RECORDING, "inputs": RECORDING},
    form_fields=True,
    resolve=_resolved,
    models=_needs,
    missing_model=_missing,
    suit=_suited,
    reply_needs_files=False,
)
