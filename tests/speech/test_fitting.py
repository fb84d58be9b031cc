"""What a model cannot do is refused before any work, and the answer says what it, or another one, can."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import ValidationFailed
from workers.speech.fitting import check_speech
from workers.speech.spec import SYNTHESIZE, SynthesizeInput

SPEAKER = [0.1] * 512
KNOWN: dict[str, dict[str, Any]] = {
    "house": {"voices": ["f1", "m1"], "languages": ["en-us", "cmn"], "emotions": ["sad"], "max_characters": 5000},
    "bark": {"voices": ["v2/en_speaker_0"], "languages": ["en"], "max_characters": 1000},
    "t5": {"voices": [], "languages": [], "speaker": "required", "max_characters": 5000},
    "t5-voiced": {"voices": ["ann"], "languages": [], "speaker": "optional", "max_characters": 5000},
    "ear": {},
}


def check(**fields: Any) -> None:
    check_speech(SYNTHESIZE.resolve(SynthesizeInput(**{"text": "Hello.", "model": "house", **fields})), KNOWN)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"voice": "m1", "language": "en", "emotion": "sad"},
        {"voice": "default", "language": "zh", "emotion": "neutral"},
        {"model": "bark", "text": "x" * 1000},
        {"model": "t5", "speaker_embedding": SPEAKER, "language": "fi"},
        {"model": "t5-voiced"},
        {"model": "t5-voiced", "speaker_embedding": SPEAKER, "voice": "default"},
    ],
    ids=str,
)
def test_what_a_model_can_do_passes(fields: dict[str, Any]) -> None:
    check(**fields)


@pytest.mark.hostile("N")
@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ({"voice": "f9"}, "voice", {"supported_voices": ["f1", "m1"]}),
        ({"language": "tlh"}, "language", {"supported_languages": ["en-us", "cmn"]}),
        ({"language": "not a tag"}, "language", {"supported_languages": ["en-us", "cmn"]}),
        ({"emotion": "bored"}, "emotion", {"models": {"house": ["sad"]}}),
        ({"model": "bark", "emotion": "sad"}, "emotion", {"models": {"house": ["sad"]}}),
        ({"model": "bark", "text": "x" * 1001}, "text", {}),
        ({"model": "ear"}, "model", {"models": ["bark", "house", "t5", "t5-voiced"]}),
        ({"speaker_embedding": SPEAKER}, "speaker_embedding", {}),
        ({"speaker_file": {"name": "x"}}, "speaker_file", {}),
        ({"model": "t5"}, "speaker_embedding", {}),
        ({"model": "t5-voiced", "speaker_embedding": SPEAKER, "voice": "ann"}, "voice", {}),
    ],
    ids=str,
)
def test_what_it_cannot_is_refused_with_what_can(fields: dict[str, Any], field: str, told: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed) as refused:
        check(**fields)
    assert refused.value.details == {"field": field, **told}


def test_the_limit_of_a_model_is_told_in_the_contracts_words() -> None:
    with pytest.raises(ValidationFailed, match=r"Text too long\. Maximum 1000 characters allowed\."):
        check(model="bark", text="x" * 1001)


@pytest.mark.hostile("N")
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({}, "text"),
        ({"text": None, "inputs": None}, "text"),
        ({"text": ""}, "text"),
        ({"inputs": " \n"}, "inputs"),
        ({"text": "…?!"}, "text"),
        ({"text": "x" * 5001}, "text"),
        ({"text": 5}, "text"),
        ({"text": ["x"]}, "text"),
        ({"text": "a", "inputs": "b"}, "text"),
        ({"text": "a", "model": "a", "model_name": "b"}, "model"),
        ({"text": "a", "format": "wav", "output_format": "mp3"}, "format"),
        ({"text": "a", "format": "WAV"}, "format"),
        ({"text": "a", "output_format": "aac"}, "output_format"),
        ({"text": "a", "speed": 0.49}, "speed"),
        ({"text": "a", "speed": 2.01}, "speed"),
        ({"text": "a", "speed": "1"}, "speed"),
        ({"text": "a", "speed": float("nan")}, "speed"),
        ({"text": "a", "pitch": 0.4}, "pitch"),
        ({"text": "a", "pitch": True}, "pitch"),
        ({"text": "a", "volume": 0.0}, "volume"),
        ({"text": "a", "volume": 2.5}, "volume"),
        ({"text": "a", "language": "x"}, "language"),
        ({"text": "a", "quality": "best"}, "quality"),
        ({"text": "a", "enable_streaming": True}, "enable_streaming"),
        ({"text": "a", "normalize_text": 1}, "normalize_text"),
        ({"text": "a", "seed": -1}, "seed"),
        ({"text": "a", "speaker_embedding": [0.1] * 511}, "speaker_embedding"),
        ({"text": "a", "speaker_embedding": [*SPEAKER[1:], 1e9]}, "speaker_embedding"),
        ({"text": "a", "speaker_embedding": "base64"}, "speaker_embedding"),
        ({"text": "a", "speaker_embedding": [0.0] * 512}, ""),
        ({"text": "a", "speaker_embedding": SPEAKER, "speaker_file": {"name": "x"}}, ""),
        ({"text": "a", "priority": 10}, "priority"),
        ({"text": "a", "colour": "red"}, "colour"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_input_is_refused_by_name(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SynthesizeInput.model_validate(fields)
    assert ".".join(map(str, refused.value.errors()[0]["loc"][:1])) == place


def test_both_dialects_become_one_request() -> None:
    ours = SynthesizeInput(text="Hello.", model="house", output_format="mp3")
    theirs = SynthesizeInput(inputs="Hello.", model_name="house", format="mp3", text="Hello.")
    assert SYNTHESIZE.resolve(ours) == SYNTHESIZE.resolve(theirs)
    assert SYNTHESIZE.resolve(SynthesizeInput(text="Hello.")).model == "house-voice"
