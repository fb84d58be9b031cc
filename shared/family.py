"""What a model family declares about itself, with no torch: the gateway draws routes, docs and limits from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from shared.errors import AtelierError, ValidationFailed
from shared.webhooks.events import EventName

MAX_SEED = 2**63 - 1
MAX_FILE_BYTES = 50_000_000  # of any file of a request; an operation may allow less
MAX_REQUEST_BYTES = 100_000_000  # of a request with all of its files
FILE_DESCRIPTION = (
    "A file: base64, a data URI with base64, an http(s) address that a worker fetches, `upload:<id>`, a file that you "
    "uploaded, or `job:<id>/<name>`, a file that an earlier, completed job of yours made."
)

Priority = Annotated[
    int, Field(ge=0, le=9, description="0 to 9; higher goes first. The header X-Priority does the same.")
]

WebhookUrl = Annotated[
    str | None,
    Field(exclude=True, min_length=1, max_length=2048, description="Where to POST what becomes of this job (https)."),
]
WebhookEvents = Annotated[
    list[EventName] | None,
    Field(exclude=True, min_length=1, description="What `webhook_url` is told; left out, how the job ended."),
]


class Schema(BaseModel):
    """Base of every request and reply: unknown fields, NaN and silent conversions are refused."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        hide_input_in_errors=True,  # an error's text is logged
    )


class JobInput(Schema):
    """Fields that every operation's JSON object accepts besides its own.

    The webhook is the platform's business: it is no part of the input that the row keeps and the runner sees.
    """

    priority: Priority | None = None
    webhook_url: WebhookUrl = None
    webhook_events: WebhookEvents = None


class FileInput(Schema):
    """A file of the request, which the runner finds in `job.inputs`; this is what its job knows of it.

    Clients send an uploaded part or a string, and never this object. `size` is in bytes, `sha256` in hex. `source` is
    set if the file did not come with the request: `upload:<id>` or `job:<id>/<name>`, which was copied, or an http(s)
    address, which a worker fetches, so that size, hash and media type are None when the job is accepted.
    """

    name: str
    media_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    source: str | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, _: Any, __: Any) -> dict[str, Any]:
        return {"title": "FileInput", "type": "string", "minLength": 1, "description": FILE_DESCRIPTION}


@dataclass(frozen=True, slots=True)
class FileField:
    """A file that an operation takes: the media types that it may have (see `shared.signatures`), its most bytes.

    `unsupported` is how the answer to a file of another type begins, where "Invalid <field>" says too little.
    """

    media_types: tuple[str, ...]
    max_bytes: int
    unsupported: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_bytes <= MAX_FILE_BYTES:
            raise ValueError(f"a file has at most {MAX_FILE_BYTES} bytes, not {self.max_bytes}")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A name in the catalog: weights (`kind` "model") or a LoRA ("adapter"); `field` is where the request names it."""

    kind: str
    name: str
    field: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model; `name` is relative to its folder, `size` in bytes, `sha256` in hex (None: not known yet)."""

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a worker found on its disk and can serve. What is not known is None.

    `source` is house, folder, huggingface, url or import; `revision` the commit of a `repository`; `parameters` a
    count; `memory_bytes` what the weights take once loaded; `settings` what the model was given to run with.
    """

    kind: str
    name: str
    title: str
    details: Mapping[str, Any] = field(default_factory=dict)
    task: str | None = None
    source: str = "folder"
    repository: str | None = None
    revision: str | None = None
    files: tuple[ModelFile, ...] = ()
    licence: str | None = None
    parameters: int | None = None
    dtype: str | None = None
    memory_bytes: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def unknown_model(ref: ModelRef, available: Sequence[str]) -> AtelierError:
    """What a name that is not in the catalog is answered with, unless the operation has words of its own."""
    what = "LoRA" if ref.kind == "adapter" else "model"
    return ValidationFailed(f"Unknown {what}.", field=ref.field, details={"available": list(available)})


DEFAULT_MODEL = "default"
"""What an operation loads that names no model; a reserved name (`shared/catalog/names.py`)."""

PATH_PART = re.compile(r"\{(\w+)\}")


def path_fields(path: str) -> list[str]:
    """The fields of the input that a path holds: `/{model_name}/predict` holds model_name."""
    return PATH_PART.findall(path)


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """What `Operation.reply` shapes: a completed job's input and output, and the bytes of its files by name."""

    id: str
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    files: Mapping[str, bytes]
    seconds: float


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a family does.

    `accepts` tells from a parsed JSON body whether this operation is meant, since several may share a path.
    `parse` turns that body into `input` (identity for objects; arrays are wrapped by the operation).
    `files` are the fields of `input` that are a FileInput. With them it takes a form as well as JSON: the files as
    parts, and the text field `config` whose JSON object is the rest of the input. Examples are JSON all the same.
    `resolve` fixes what the client left open (a random seed, the default model) before the job is accepted, so that
    every attempt makes the same thing. `models` names what a resolved request needs, so that a request for a model
    that no worker has is refused at once, by `missing_model` with the names there are. `suit` fits a resolved request
    to what the family's models say of themselves (by name; with the `task` of each), or raises an AtelierError that
    says what the model cannot do. `wants_preview` tells whether a request asked for previews.

    A path may hold fields of the input in braces. `access` is the scope that a POST needs; an operation without paths
    is the platform's own. `form_fields` lets a form give the input's other fields as text parts as well. `accepted`
    adds keys to the 202, given the job's id. Queued jobs with equal `batch_key`s may be run as one batch of at most
    `max_batch`, where the runner has a `run_batch`. After `time_limit` seconds since its acceptance a job expires, and
    who waits is told so.
    """

    name: str
    paths: tuple[str, ...]
    input: type[BaseModel]
    reply_schema: type[BaseModel]
    reply: Callable[[CompletedJob], Mapping[str, Any]]
    summary: str
    description: str
    examples: Mapping[str, Any]
    body_schema: type[BaseModel] | None = None
    files: Mapping[str, FileField] = field(default_factory=dict)
    config: str = "config"
    accepts: Callable[[object], bool] = field(default=lambda body: isinstance(body, dict))
    parse: Callable[[Any], Any] = field(default=lambda body: body)
    resolve: Callable[[Any], Any] = field(default=lambda request: request)
    models: Callable[[Any], tuple[ModelRef, ...]] = field(default=lambda _: ())
    suit: Callable[[Any, Mapping[str, Mapping[str, Any]]], Any] = field(default=lambda request, _known: request)
    wants_preview: Callable[[Any], bool] = field(default=lambda request: getattr(request, "preview", False))
    reply_needs_files: bool = True
    missing_model: Callable[[ModelRef, Sequence[str]], AtelierError] = unknown_model
    access: str = "jobs:write"
    form_fields: bool = False
    accepted: Callable[[str, Any], Mapping[str, Any]] = field(default=lambda _id, _request: {})
    batch_key: Callable[[Any], str | None] = field(default=lambda _: None)
    max_batch: int = 1
    time_limit: Callable[[Any], float | None] = field(default=lambda _: None)


def loaded_model(operation: Operation, request: Any) -> str:
    """The model that a worker loads for this resolved request: one, with whatever adapters."""
    return next((ref.name for ref in operation.models(request) if ref.kind == "model"), DEFAULT_MODEL)


@dataclass(frozen=True, slots=True)
class Family:
    """A room of models: its queue, its operations, the longest that one attempt may run (seconds).

    `discover` lists the models that lie on this machine's disk; workers report them, the gateway never calls it.
    """

    name: str
    title: str
    max_runtime: float
    operations: tuple[Operation, ...]
    discover: Callable[[], tuple[ModelCard, ...]]
    examples: tuple[Mapping[str, str], ...] = ()

    @property
    def queue(self) -> str:
        """The Celery queue that carries this family's doorbells."""
        return f"atelier.{self.name}"

    def operation(self, name: str) -> Operation:
        """The operation of this name; KeyError if there is none."""
        for operation in self.operations:
            if operation.name == name:
                return operation
        raise KeyError(name)
