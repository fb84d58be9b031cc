"""Whether the chosen model can do what is asked, by what it says of itself: refused by the gateway, before any work.

A field that changes nothing is refused as well: nobody should believe that it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import ValidationFailed
from workers.speech.transcription_schema import AUTO, Transcription, model_missing

MAY_ACT = (
    "word_timestamps",
    "beam_size",
    "temperature",
    "suppress_blank",
    "initial_prompt",
    "no_speech_threshold",
    "logprob_threshold",
)


def check_hearing(request: Transcription, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValidationFailed that names the field, or the answer to a model that does not hear.

    `known` are the details of the family's models by name.
    """
    name = request.model or ""
    card = known[name]
    if "tasks" not in card:
        raise model_missing(sorted(other for other, found in known.items() if "tasks" in found))
    if request.language != AUTO and request.language not in card["languages"]:
        reason = f"{name} does not know it" if card["languages"] else f"{name} does not tell its languages; say auto"
        raise _refused("language", reason, supported_languages=card["languages"])
    if request.task not in card["tasks"]:
        raise _refused("task", f"{name} cannot {request.task}", supported_tasks=card["tasks"])
    for field in MAY_ACT:
        if field not in card["fields"] and getattr(request, field) != Transcription.model_fields[field].default:
            raise _refused(field, f"it changes nothing with {name}; leave it out", supported_fields=card["fields"])


def _refused(field: str, reason: str, **details: Any) -> ValidationFailed:
    return ValidationFailed(f"Invalid {field}: {reason}.", field=field, details=details)
