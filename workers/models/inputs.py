"""The bodies that the models family takes; what their fields must be together is in `checks.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from shared.catalog.names import NAME
from shared.family import JobInput, Schema
from workers.models import rules

NOT_OFFERED = {
    "pytorch_hub": "its models are pickles and code, which are not loaded here",
    "torchvision": "its models are pickles",
    "nvidia": "its models come with code of their own",
}

Name = Annotated[
    str, StringConstraints(min_length=1, max_length=100), Field(json_schema_extra={"pattern": f"^{NAME.pattern}$"})
]
Task = Annotated[str, Field(json_schema_extra={"enum": sorted(rules.TASKS)})]


def _checked(problem: str | None) -> None:
    if problem:
        raise ValueError(problem)


def _served(task: str) -> str:
    if task not in rules.TASKS:
        raise ValueError(f"No family serves this task; known are {', '.join(sorted(rules.TASKS))}.")
    return task


class Placed(JobInput):
    """A model of this name, for this task."""

    name: Name = Field(description="What requests will call it.", examples=["whisper-tiny"])

    @field_validator("name")
    @classmethod
    def _may_be_called_so(cls, name: str) -> str:
        _checked(rules.naming_problem(name))
        return name


class DownloadInput(Placed):
    """A model from the hub or from an address."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"source": "huggingface", "model_id": "openai/whisper-tiny", "name": "whisper-tiny"}]
        }
    )

    source: Literal["huggingface", "url", "tts_auto"] = Field(
        description="huggingface: a repository; url: one file; tts_auto: a repository whose model speaks."
    )
    model_id: str = Field(
        min_length=1, max_length=2048, description="OWNER/NAME, or the address of one .safetensors or .onnx file."
    )
    task: Task | None = Field(
        None, description="Left out, what the hub says of the repository, or text-generation where it says nothing."
    )
    auto_convert_tts: bool = Field(
        False, description="A model that speaks, with all that it needs for it: SpeechT5 comes with its vocoder."
    )
    include_vocoder: bool = Field(False, description="Fetch a vocoder into the model's folder as well.")
    vocoder_model: str | None = Field(
        None, max_length=200, description=f"The vocoder's repository; left out, {rules.VOCODER}."
    )
    enable_large_model: bool = Field(False, description="Go beyond ATELIER_MAX_MODEL_BYTES.")
    experimental: bool = Field(
        False, description="Take a repository of an owner who is not listed, where the operator allows that."
    )
    custom_settings: dict[str, Any] | None = Field(None, max_length=0, description="Not offered: must be empty.")
    config: dict[str, Any] | None = Field(None, max_length=0, description="Not offered: must be empty.")
    revision: str | None = Field(
        None, min_length=1, max_length=200, description="Branch, tag or commit of the repository; left out, main."
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Of the file at the address, in hex; anything else is refused."
    )
    force: bool = Field(False, description="Download it again, and replace what has this name.")

    @field_validator("source", mode="before")
    @classmethod
    def _is_offered(cls, source: object) -> object:
        if isinstance(source, str) and source in NOT_OFFERED:
            raise ValueError(
                f"{source} is not offered: {NOT_OFFERED[source]}. Use huggingface with a repository that has "
                "safetensors (GET /models/available lists some), or url with a single file."
            )
        return source

    @field_validator("task")
    @classmethod
    def _is_served(cls, task: str | None) -> str | None:
        return None if task is None else _served(task)

    @field_validator("custom_settings", "config", mode="before")
    @classmethod
    def _is_empty(cls, value: object) -> object:
        if value:
            raise ValueError("Nothing would come of it: a model's configuration is in its files.")
        return value

    @field_validator("revision")
    @classmethod
    def _is_a_revision(cls, revision: str | None) -> str | None:
        _checked(revision and rules.revision_problem(revision))
        return revision


class ImportInput(Placed):
    """A model that lies in the folder that the operator set apart for this."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"path": "my-bert", "name": "my-bert", "task": "fill-mask"}]}
    )

    path: str = Field(
        min_length=1,
        max_length=500,
        description="A folder, or one .safetensors or .onnx file, under ATELIER_IMPORT_DIR.",
    )
    task: Task
    licence: str | None = Field(None, max_length=200, description="Noted beside the model.")
    force: bool = Field(False, description="Replace what has this name.")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in path or "\x00" in path:
            raise ValueError("a relative path without dots, such as bert/v2")
        return path

    @field_validator("task")
    @classmethod
    def _is_served(cls, task: str) -> str:
        return _served(task)


class ModelInput(Schema):
    """A downloaded or imported model, by its family, its kind and its name."""

    family: str = Field(pattern="^[a-z0-9]+$", max_length=40)
    kind: Literal["model", "adapter"] = "model"
    name: Name
