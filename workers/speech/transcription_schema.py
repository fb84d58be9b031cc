"""What `POST /transcribe` accepts and answers: the reference API 004 in both of its dialects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from shared.errors import NotFound
from shared.family import FileInput, JobInput, Schema

AUTO = "auto"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Transcription(JobInput):
    """A recording to be heard; exactly one of `file` and `inputs` is given."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": "data:audio/wav;base64,UklGRg=="}]})

    file: FileInput | None = None
    inputs: FileInput | None = None
    model: Name | None = Field(None, description="A name of GET /models; left out, the server's default.")
    model_name: Name | None = Field(None, description="The same as `model`.")
    language: str = Field(
        AUTO, pattern=r"^(auto|[a-z]{2,3})$", description="The code of the language spoken, or auto: it is detected."
    )
    task: Literal["transcribe", "translate"] = Field("transcribe", description="translate answers in English.")
    enable_timestamps: bool = Field(True, description="False: the reply has no segments, the result no subtitles.")
    word_timestamps: bool = Field(False, description="Segments tell their words, each with its times.")
    beam_size: int = Field(5, ge=1, le=10, description="Hypotheses that are followed; 1 takes the likeliest token.")
    temperature: float = Field(
        0.0, ge=0, le=1, description="0 searches, more samples. A window heard badly is tried again with more."
    )
    suppress_blank: bool = Field(True, description="A window does not begin with a blank.")
    initial_prompt: str | None = Field(
        None, min_length=1, max_length=2000, description="Words that may come up and how they are written."
    )
    no_speech_threshold: float = Field(
        0.6, ge=0, le=1, description="A window that is likelier silence than this is skipped if it was heard badly."
    )
    logprob_threshold: float = Field(
        -1.0, ge=-20, le=0, description="Mean log-probability of a window's tokens below which it was heard badly."
    )

    @model_validator(mode="after")
    def _one_file(self) -> Self:
        if (self.file is None) == (self.inputs is None):
            raise ValueError("one of file and inputs is needed" + (", not both" if self.file else ""))
        return self

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.model and self.model_name and self.model != self.model_name:
            raise ValueError("model and model_name name different models")
        return self

    @property
    def field(self) -> str:
        """The name of the field that has the recording."""
        return "inputs" if self.file is None else "file"


class WordReply(Schema):
    """A word; seconds, and 0 to 1."""

    start: float
    end: float
    text: str
    confidence: float


class SegmentReply(Schema):
    """A stretch of the recording; seconds, and the geometric mean of its tokens' probabilities."""

    start: float
    end: float
    text: str
    confidence: float
    words: list[WordReply] | None = Field(None, description="Only with `word_timestamps`.")


class HearingModel(Schema):
    """Which model heard, and where it ran."""

    model: str
    model_name: str
    device: str


class HearingMetadata(Schema):
    """The recording as it was heard, and the files of the result."""

    task: str
    sample_rate: int = Field(description="Of the file, in Hz.")
    speech_duration: float = Field(description="Seconds covered by segments.")
    files: list[str] = Field(description="For /results/{id}/files/{name}.")


class TranscriptionReply(Schema):
    """The synchronous answer."""

    success: Literal[True]
    request_id: str
    text: str
    transcription: str = Field(description="The same as `text`.")
    segments: list[SegmentReply]
    language: str | None = Field(description="null where the model does not tell.")
    language_probability: float | None = Field(description="null where the language was given or is not detected.")
    confidence: float | None = Field(description="Of the segments, weighted by their length; null if nothing is said.")
    duration: float = Field(description="Seconds of the recording.")
    processing_time: float = Field(description="Seconds.")
    model_used: str
    model_info: HearingModel
    metadata: HearingMetadata


def model_missing(available: Sequence[str]) -> NotFound:
    """The reference API's words for a model that is not there, or that does not hear."""
    return NotFound("Model not available", details={"field": "model", "available_models": list(available)})
