"""What the predict family accepts and answers: /predict of the reference API 004."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from shared.errors import NotFound, ValidationFailed
from shared.family import (
    CompletedJob,
    Family,
    FileField,
    FileInput,
    JobInput,
    ModelRef,
    Operation,
    Schema,
)
from workers.predict.catalog import HOUSE_MODEL, discover
from workers.predict.items import SCHEMA, Items, example_row, split
from workers.predict.parameters import Parameters
from workers.predict.suiting import ALONE, Misfit, check

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
MAX_IMAGE_BYTES = 20_000_000
MAX_BATCH = 32  # jobs that are run together
MAX_TIMEOUT = 86_400
TEXT_CLASSES = (64, 256, 1024, 4096)  # characters: texts of one class are padded to one length together
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class PredictInput(JobInput):
    """One input or several for one model."""

    model_name: Name = Field(description="A name of GET /models.", examples=[HOUSE_MODEL])
    image: FileInput | None = None
    inputs: Annotated[Any, WithJsonSchema(SCHEMA)] = Field(None, validate_default=True, examples=[[1, 2, 3, 4, 5]])
    parameters: Parameters = Field(
        default_factory=lambda: Parameters.model_validate({}), description="How the model's task does its work."
    )
    token: str | None = Field(
        None, exclude=True, max_length=10_000, description="A key or access token, for clients that set no headers."
    )
    priority: int | None = Field(None, ge=0, le=10, description="0 to 10; higher goes first. 10 counts as 9.")
    timeout: float | None = Field(
        None, gt=0, le=MAX_TIMEOUT, description="Seconds until the job is given up: 504. Left out, the platform's."
    )
    enable_batching: bool = Field(True, description="False: never computed together with other requests.")

    @field_validator("inputs")
    @classmethod
    def _can_be_read(cls, inputs: Any, info: ValidationInfo) -> Any:
        given = info.data.get("image") is not None
        if (inputs is not None) == given:
            raise _wrong("This field is required, or `image`." if inputs is None else "There is `image` already.")
        try:
            values = split(inputs).values if inputs is not None else []
            if info.data.get("model_name") == HOUSE_MODEL:
                for value in values or [None]:
                    example_row(value)
        except ValueError as error:
            raise _wrong(str(error)) from None
        return inputs

    @field_validator("parameters")
    @classmethod
    def _example_has_none(cls, parameters: Parameters, info: ValidationInfo) -> Parameters:
        if info.data.get("model_name") == HOUSE_MODEL and parameters.given():
            raise _wrong("the example model takes no parameters")
        return parameters

    def items(self) -> Items:
        """The inputs, one by one; of a request with `image`, its field's name, under which its job has the file."""
        return split(self.inputs) if self.inputs is not None else Items("picture", ["image"], batch=False)


class ModelInfo(Schema):
    """What made the result."""

    model: str
    task: str
    device: str
    input_type: Literal["single", "batch"]
    input_count: int
    processing_path: Literal["single", "request_batch", "shared_batch"] = Field(
        description="Computed alone, with the others of its request, or with other requests."
    )
    truncated: list[int] = Field(description="Which inputs were cut, as `parameters.truncation` allowed.")
    seed: int | None = Field(None, description="Of a sampled text.")


class BatchInfo(Schema):
    """What was computed together."""

    inflight_batching_enabled: bool = Field(description="The request allowed it, and so does the model.")
    processed_as_batch: bool = Field(description="More than one input went through the network at once.")
    concurrent_optimization: bool = Field(description="Some of them were other requests'.")
    batch_size: int = Field(description="Inputs of the largest batch that this request was part of.")
    requests: int = Field(description="Requests that were run together.")


class PredictReply(Schema):
    """The synchronous answer. `result` is a list for a batch, in its order."""

    success: bool
    request_id: str
    result: Any
    processing_time: float = Field(description="Seconds of computing, shared by all requests of the batch.")
    model_info: ModelInfo
    batch_info: BatchInfo


def batch_key(request: PredictInput) -> str | None:
    """Equal for requests whose inputs may go through the network together: one model, parameters, class of shape."""
    shape = _shape(request)
    if not request.enable_batching or shape is None:
        return None
    return json.dumps([request.model_name, shape, request.parameters.given()], sort_keys=True)


def _shape(request: PredictInput) -> str | None:
    items = request.items()
    if items.kind == "picture":
        fetched = request.image is None or request.image.sha256 is None
        return None if fetched else "picture"  # a slow host must not hold the others up
    if items.kind == "named":
        return None  # whole tensors, whose first axis need not be a batch
    if items.kind == "numbers":
        lengths = {len(value) for value in items.values}
        return f"numbers {lengths.pop()}" if len(lengths) == 1 else None
    longest = max(len(text) for text in items.values)
    return next((f"text {limit}" for limit in TEXT_CLASSES if longest <= limit), "text")


def _resolved(request: PredictInput) -> PredictInput:
    update: dict[str, Any] = {"priority": min(request.priority, 9)} if request.priority is not None else {}
    if request.parameters.temperature is not None and request.parameters.seed is None:
        update["parameters"] = request.parameters.model_copy(update={"seed": secrets.randbelow(2**32)})
    return request.model_copy(update=update)


def _suited(request: PredictInput, known: Mapping[str, Mapping[str, Any]]) -> PredictInput:
    task = known[request.model_name]["task"]
    if task is None:  # the worker knows it
        return request
    try:
        check(task, request.items().kind, request.parameters)
    except Misfit as error:
        raise ValidationFailed(str(error), field=error.field) from None
    return request.model_copy(update={"enable_batching": False}) if task in ALONE else request


def _missing(ref: ModelRef, available: Sequence[str]) -> NotFound:
    message = f"Model '{ref.name}' is not available. Check models.json configuration."
    return NotFound(message, details={"field": ref.field, "available": list(available)})


def _reply(job: CompletedJob) -> dict[str, Any]:
    return {"success": True, "request_id": job.id, **job.output}


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("inputs", "{message}", {"message": message})


PREDICT = Operation(
    name="predict.predict",
    paths=("/predict", "/predict/batch", "/{model_name}/predict"),
    input=PredictInput,
    reply_schema=PredictReply,
    reply=_reply,
    summary="Ask a model",
    description="What comes out depends on the model's task; `workers/predict/README.md` has them all.",
    examples={
        "one input": {"model_name": HOUSE_MODEL, "inputs": [1, 2, 3, 4, 5]},
        "a batch": {"model_name": HOUSE_MODEL, "inputs": [[1, 2, 3], [4, 5, 6]]},
    },
    files={"image": FileField(IMAGE_TYPES, MAX_IMAGE_BYTES)},
    resolve=_resolved,
    models=lambda request: (ModelRef("model", request.model_name, "model_name"),),
    suit=_suited,
    missing_model=_missing,
    batch_key=batch_key,
    max_batch=MAX_BATCH,
    time_limit=lambda request: request.timeout,
    reply_needs_files=False,
)

PREDICT_FAMILY = Family(
    name="predict",
    title="Predictions: numbers, texts and pictures through any catalogued model",
    max_runtime=900,
    operations=(PREDICT,),
    discover=discover,
)
