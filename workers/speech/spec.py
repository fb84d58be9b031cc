"""What the speech family accepts and answers: the audio half of the reference API 004, both of its dialects."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args
from unicodedata import category

from pydantic import ConfigDict, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from shared.errors import AtelierError, NotFound
from shared.family import (
    MAX_SEED,
    CompletedJob,
    Family,
    FileField,
    FileInput,
    JobInput,
    ModelRef,
    Operation,
    Schema,
)
from workers.speech.catalog import default_voice, discover
from workers.speech.fitting import MAX_CHARACTERS, check_speech
from workers.speech.transcription_spec import TRANSCRIBE

SAYABLE = "LNS"  # Unicode's letters, numbers and symbols
SPEAKER = 512  # numbers of a speaker embedding
MAX_SPEAKER_BYTES = 65_536
TOO_LONG = f"Text too long. Maximum {MAX_CHARACTERS} characters allowed."
NO_STREAM = "there is no stream of audio; /status/{id}/events tells of every sentence, and the sound comes whole"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
SPOKEN = {"minLength": 1, "maxLength": MAX_CHARACTERS, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}
Text = Annotated[str | None, Field(json_schema_extra=SPOKEN)]
Format = Literal["wav", "mp3", "flac", "ogg"]
FORMATS = get_args(Format)
Number = Annotated[float, Field(ge=-1e6, le=1e6)]


class SynthesizeInput(JobInput):
    """Speech from a text. `inputs`, `model_name` and `format` are other names of `text`, `model`, `output_format`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "Hello, world."}],
            "anyOf": [{"required": ["text"]}, {"required": ["inputs"]}],
        }
    )

    inputs: Text = Field(None, description="What is said.")
    text: Text = Field(None, description="The same as `inputs`.", validate_default=True)
    model_name: Name | None = Field(None, description="A model that speaks; left out, the server's default.")
    model: Name | None = Field(None, description="The same as `model_name`.")
    voice: Name | None = Field(None, description='One of the model\'s voices; left out or "default", its own.')
    speed: float = Field(1.0, ge=0.5, le=2, description="2 takes half the time; the pitch stays.")
    pitch: float = Field(1.0, ge=0.5, le=2, description="A factor of the voice's frequency; the duration stays.")
    volume: float = Field(1.0, ge=0.1, le=2, description="A factor of the amplitude, as far as it fits undistorted.")
    language: Annotated[str, StringConstraints(min_length=2, max_length=35)] | None = Field(
        None, description="A BCP 47 tag; left out, the voice's own (English for house-voice).", examples=["en", "de"]
    )
    emotion: Name | None = Field(None, description="For the models that have emotions; any knows `neutral`.")
    output_format: Format | None = Field(None, description="Left out, wav.")
    format: Format | None = Field(None, description="The same as `output_format`.")
    quality: Literal["low", "medium", "high"] = Field(
        "medium", description="low: half the sample rate, small files; high: 24 bits, or the encoder's finest."
    )
    speaker_embedding: Annotated[list[Number], Field(min_length=SPEAKER, max_length=SPEAKER)] | None = Field(
        None, description="Whose voice it is, for models that take one: an x-vector of 512 numbers."
    )
    speaker_file: FileInput | None = Field(
        None, description="The same as a safetensors file with one tensor of 512 numbers."
    )
    enable_streaming: bool = Field(False, description="Only false: " + NO_STREAM + ".")
    normalize_text: bool = Field(True, description="Say numbers, money and abbreviations in words.")
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="For engines that play dice; left out, 0: equal requests sound alike."
    )

    @field_validator("inputs", "text")
    @classmethod
    def _says_something(cls, text: str | None) -> str | None:
        if text is not None and not any(category(letter)[0] in SAYABLE for letter in text):
            raise ValueError("there is nothing to say")
        if text is not None and len(text) > MAX_CHARACTERS:
            raise ValueError(TOO_LONG)
        return text

    @field_validator("text")
    @classmethod
    def _one_text(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is None and "inputs" in info.data and info.data["inputs"] is None:
            raise ValueError("This field is required (or `inputs`).")
        return _same(text, "inputs", info)

    @field_validator("model")
    @classmethod
    def _one_model(cls, model: str | None, info: ValidationInfo) -> str | None:
        return _same(model, "model_name", info)

    @field_validator("format")
    @classmethod
    def _one_format(cls, name: str | None, info: ValidationInfo) -> str | None:
        return _same(name, "output_format", info)

    @field_validator("enable_streaming")
    @classmethod
    def _no_stream(cls, wanted: bool) -> bool:
        if wanted:
            raise ValueError(NO_STREAM)
        return wanted

    @model_validator(mode="after")
    def _one_speaker(self) -> Self:
        if self.speaker_embedding is not None and not any(self.speaker_embedding):
            raise ValueError("speaker_embedding must not be all zeros")
        if self.speaker_embedding is not None and self.speaker_file is not None:
            raise ValueError("give either speaker_embedding or speaker_file")
        return self


class SpeechInfo(Schema):
    """What spoke."""

    model_name: str
    voice: str
    language: str | None = Field(description="null where the model does not say which it speaks.")
    actual_model: str = Field(description="The engine, or the architecture.")


class SynthesizeReply(Schema):
    """The synchronous answer of POST /synthesize."""

    request_id: str
    success: Literal[True]
    audio_data: str = Field(description="base64 of the file.")
    audio_format: Format
    format: Format
    duration: float = Field(description="Seconds.")
    sample_rate: int
    channels: int
    processing_time: float = Field(description="Seconds.")
    generation_time: float = Field(description="Seconds.")
    model_info: SpeechInfo
    model_used: str
    voice_used: str
    text_length: int = Field(description="Characters of the request's text.")
    metadata: dict[str, Any] = Field(description="What was asked for, the sentences as they were said, and the gain.")


def _same(value: str | None, other: str, info: ValidationInfo) -> str | None:
    """Two names of one thing must not say different things."""
    given = info.data.get(other)
    if None not in (value, given) and value != given:
        raise ValueError(f"{other} says something else")
    return value


def _resolved(request: SynthesizeInput) -> SynthesizeInput:
    """One dialect, and nothing left open."""
    return request.model_copy(
        update={
            "text": request.text or request.inputs,
            "model": request.model or request.model_name or default_voice(),
            "output_format": request.output_format or request.format or "wav",
            "seed": request.seed or 0,
            **dict.fromkeys(("inputs", "model_name", "format")),
        }
    )


def _unknown(ref: ModelRef, available: Sequence[str]) -> AtelierError:
    details = {"field": ref.field, "provided": ref.name, "available_models": list(available)}
    return NotFound("Model not available", details=details)


def _reply(job: CompletedJob) -> dict[str, Any]:
    output: Mapping[str, Any] = job.output
    (content,) = (job.files[name] for name in output["files"])
    return {
        "request_id": job.id,
        "success": True,
        "audio_data": base64.b64encode(content).decode(),
        "format": output["audio_format"],
        "processing_time": output["generation_time"],
        "model_used": output["model_info"]["model_name"],
        "voice_used": output["model_info"]["voice"],
        **{key: value for key, value in output.items() if key != "files"},
    }


def _suited(request: SynthesizeInput, known: Mapping[str, Mapping[str, Any]]) -> SynthesizeInput:
    check_speech(request, known)
    return request


SYNTHESIZE = Operation(
    name="speech.synthesize",
    paths=("/synthesize",),
    input=SynthesizeInput,
    reply_schema=SynthesizeReply,
    reply=_reply,
    summary="Say a text",
    description="Speech as a WAV, MP3, FLAC or Ogg file. Long texts are said sentence by sentence; each is a step.",
    examples={
        "hello": {"text": "Hello! The workshop is open.", "voice": "f2", "output_format": "mp3"},
        "by the other names": {"model_name": "house-voice", "inputs": "Good morning.", "speed": 1.2, "pitch": 0.9},
    },
    files={"speaker_file": FileField(("application/vnd.safetensors",), MAX_SPEAKER_BYTES)},
    resolve=_resolved,
    models=lambda request: (ModelRef("model", request.model or "", "model"),),
    missing_model=_unknown,
    suit=_suited,
)

SPEECH = Family(
    name="speech",
    title="Speech from text, and text from speech",
    max_runtime=900,
    operations=(SYNTHESIZE, TRANSCRIBE),
    discover=discover,
)
