"""Whether the chosen model can do what is asked, by what it says of itself: refused by the gateway, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import ValidationFailed
from workers.speech.languages import closest

MAX_CHARACTERS = 5000
NEUTRAL = "neutral"
DEFAULT = "default"
Known = Mapping[str, Mapping[str, Any]]  # the models of the family, by name: what their cards say


def check_speech(request: Any, known: Known) -> None:
    """Raise ValidationFailed that names the field, if the request's model cannot say it so."""
    name, card = request.model, known[request.model]
    if "voices" not in card:
        speaking = {other: found for other, found in known.items() if "voices" in found}
        raise _refused("model", f"{name} hears; it does not speak", models=sorted(speaking))
    if len(request.text) > card["max_characters"]:
        message = f"Text too long. Maximum {card['max_characters']} characters allowed."
        raise ValidationFailed(f"Invalid text: {message}", field="text")
    if request.voice not in (None, DEFAULT) and request.voice not in card["voices"]:
        raise _refused("voice", f"{name} has no such voice", supported_voices=card["voices"])
    if request.language and card["languages"] and not closest(request.language, card["languages"]):
        raise _refused("language", f"{name} does not speak it", supported_languages=card["languages"])
    if request.emotion not in (None, NEUTRAL) and request.emotion not in card.get("emotions", ()):
        able = {other: found["emotions"] for other, found in known.items() if found.get("emotions")}
        raise _refused("emotion", f"{name} has no such emotion; see `models` for those that have", models=able)
    _check_speaker(request, card)


def _check_speaker(request: Any, card: Mapping[str, Any]) -> None:
    given = [name for name in ("speaker_embedding", "speaker_file") if getattr(request, name) is not None]
    if given and "speaker" not in card:
        raise _refused(given[0], f"{request.model} takes no speaker's numbers; choose a `voice`")
    if given and request.voice not in (None, DEFAULT):
        raise _refused("voice", f"{given[0]} says already who speaks")
    if not given and not card["voices"] and card.get("speaker") == "required":
        reason = f"{request.model} has no voice of its own: give speaker_embedding (512 numbers) or speaker_file"
        raise _refused("speaker_embedding", reason)


def _refused(field: str, reason: str, **details: Any) -> ValidationFailed:
    return ValidationFailed(f"Invalid {field}: {reason}.", field=field, details=details)
