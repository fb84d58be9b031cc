"""What the avatar family accepts and answers: the reference API 000, with a turntable, a mesh and depth besides."""

from __future__ import annotations

import base64
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

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
from workers.avatar.catalog import default_model, discover
from workers.avatar.vocabulary import ETHNICITIES, HAIR_COLORS, option_of

MODEL_VERSION = "1.0.0"  # of the reference API's contract
LATENT_DIM = 512
CAMERA = 25
IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
MAX_STYLE_BYTES = 20_000_000
HALF_TURN = math.pi / 2

Text = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Angle = Annotated[float, Field(ge=-HALF_TURN, le=HALF_TURN)]
Azimuth = Annotated[float, Field(ge=-4 * math.pi, le=4 * math.pi)]
Seed = Annotated[
    int | None, Field(ge=0, le=MAX_SEED, description="Left out, a random one is chosen and told in the metadata.")
]
MAX_VIEWS = 16
Views = Annotated[int, Field(ge=1, le=MAX_VIEWS, description="Pictures, spread evenly over the camera's ranges.")]
Resolution = Annotated[int, Field(ge=64, le=1024, description="Pixels a side.")]
Psi = Annotated[float, Field(ge=0, le=1, description="0 is the average head, 1 the full variety.")]
Format = Literal["png", "jpeg", "webp"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Camera(Schema):
    """Where the views are taken from; radians. Azimuth 0 is the front, elevation grows upwards."""

    radius: float = Field(default=2.5, ge=1.8, le=10, description="Distance from the head's centre; a head is 2 high.")
    elevation_range: list[Angle] = Field(default=[-0.25, 0.25], min_length=2, max_length=2)
    azimuth_range: list[Azimuth] = Field(default=[0.0, 2 * math.pi], min_length=2, max_length=2)

    @field_validator("elevation_range", "azimuth_range")
    @classmethod
    def _ordered(cls, span: list[float]) -> list[float]:
        if span[0] > span[1]:
            raise ValueError("the range must run from low to high")
        return span


class Style(Schema):
    """What the head is asked to be; what is left out is left to the seed."""

    age: Literal["young", "middle", "elderly"] | None = None
    gender: Literal["male", "female", "neutral"] | None = None
    expression: Literal["neutral", "smile", "serious"] | None = None
    ethnicity: Text | None = Field(default=None, description="A complexion: " + ", ".join(ETHNICITIES))
    hair_color: Text | None = Field(default=None, description=", ".join(HAIR_COLORS))

    @field_validator("ethnicity")
    @classmethod
    def _known_ethnicity(cls, text: str | None) -> str | None:
        if text is not None:
            option_of(ETHNICITIES, text)
        return text

    @field_validator("hair_color")
    @classmethod
    def _known_hair(cls, text: str | None) -> str | None:
        if text is not None:
            option_of(HAIR_COLORS, text)
        return text

    def attributes(self) -> dict[str, str]:
        """What was asked for, in the options that a model's attributes have."""
        asked = self.model_dump(exclude_none=True)
        for name, words in (("ethnicity", ETHNICITIES), ("hair_color", HAIR_COLORS)):
            if name in asked:
                asked[name] = option_of(words, asked[name])
        return asked


class Extras(JobInput):
    """What every avatar operation can make besides its pictures."""

    turntable: bool = Field(False, description="An orbit as turntable.webp and turntable.mp4.")
    mesh: bool = Field(False, description="The head as avatar.glb, with vertex colours.")
    depth: bool = Field(False, description="depth_000.png …: distance in 1/10,000 units, 16 bits, 0 where nothing is.")
    model: Name | None = Field(None, description="A name of GET /models/status; left out, the server's default.")


class Avatar(Extras):
    """One avatar, seen from several sides."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"num_views": 4, "seed": 42, "style_config": {"age": "young"}}]}
    )

    num_views: Views = 1
    resolution: Resolution = 512
    seed: Seed = None
    truncation_psi: Psi = 0.8
    camera_config: Camera = Camera()
    style_config: Style = Style()
    output_format: Format = "png"


class Custom(Extras):
    """An avatar from a latent code and cameras of the client's own."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"latent_code": [*[0.0] * 511, 1.0], "num_views": 1}]})

    latent_code: list[float] = Field(min_length=LATENT_DIM, max_length=LATENT_DIM, description="512 numbers.")
    camera_params: list[float] | list[list[float]] | None = Field(
        None,
        description="25 numbers a view (a 4×4 pose, row-major, OpenCV axes; then 3×3 intrinsics over the picture's "
        "side), flat or one list a view. Left out, an orbit.",
    )
    camera_convention: Literal["cam2world", "world2cam"] = "cam2world"
    num_views: Views | None = Field(None, description="Left out, as many as there are cameras; without those, 1.")
    resolution: Resolution = 512
    truncation_psi: Psi = 0.8
    output_format: Format = "png"

    @field_validator("latent_code")
    @classmethod
    def _has_length(cls, code: list[float]) -> list[float]:
        if not any(code) or max(map(abs, code)) > 1e6:
            raise ValueError("the numbers must not all be 0, nor exceed a million")
        return code

    @field_validator("camera_params")
    @classmethod
    def _cameras(cls, params: list[float] | list[list[float]] | None) -> list[list[float]] | None:
        if params is None:
            return None
        views = _per_view(params)
        for index, view in enumerate(views):
            _check_camera(view, index)
        return views

    @model_validator(mode="after")
    def _one_a_view(self) -> Self:
        cameras = self.camera_params
        if cameras is not None and len(cameras) > MAX_VIEWS:
            raise ValueError(f"camera_params has {len(cameras)} views; {MAX_VIEWS} are the most")
        if cameras is not None and self.num_views not in (None, len(cameras)):
            raise ValueError(f"camera_params has {len(cameras)} views, num_views says {self.num_views}")
        return self


class StyleTransfer(Extras):
    """An avatar in the colours and contrasts of a picture."""

    style_image: FileInput
    style_weight: float = Field(1.0, ge=0, le=1, description="0 is the plain avatar, exactly.")
    preserve_identity: bool = Field(True, description="False lets the style change the head itself too.")
    num_views: Views = 1
    resolution: Resolution = 512
    seed: Seed = None
    truncation_psi: Psi = 0.8
    camera_config: Camera = Camera()
    base_attributes: Style = Style()
    output_format: Format = "png"


class Batch(JobInput):
    """Several avatars as one job; `resolution` and `output_format` are for the requests that name none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [{"num_views": 2}], "resolution": 256}]})

    requests: list[Avatar] = Field(min_length=1, max_length=16)
    resolution: Resolution | None = None
    output_format: Format | None = None

    @model_validator(mode="before")
    @classmethod
    def _share(cls, body: Any) -> Any:
        """Hand the shared fields down before the requests' own defaults are filled in."""
        if not isinstance(body, dict) or not isinstance(body.get("requests"), list):
            return body
        shared = {key: body[key] for key in ("resolution", "output_format") if body.get(key) is not None}
        requests = [shared | item if isinstance(item, dict) else item for item in body["requests"]]
        return body | {"requests": requests}


class Metadata(Schema):
    """What made the pictures."""

    resolution: int
    num_views: int
    model_version: str
    model: str
    model_sha256: str
    seed: int | None = Field(description="null where the client gave the latent.")
    cameras: list[list[float]] = Field(description="25 numbers a view, cam2world.")
    files: list[str] = Field(description="Every file of this avatar, for /results/{id}/files/{name}.")


class AvatarReply(Schema):
    """The synchronous answer of one avatar."""

    request_id: str
    status: Literal["success"]
    generation_time: float = Field(description="Seconds.")
    images: list[str] = Field(description="base64, one a view.")
    metadata: Metadata


class BatchMetadata(Schema):
    """Sums over a batch."""

    resolution: int | None = Field(description="null where the requests' own differ.")
    num_requests: int
    total_images: int


class BatchResult(Schema):
    """One request's result, or why there is none."""

    index: int
    success: bool
    request_id: str
    images: list[str] = Field(default_factory=list)
    metadata: Metadata | None = None
    error: str | None = None


class AvatarBatchReply(Schema):
    """The synchronous answer of a batch."""

    request_id: str
    status: Literal["success"]
    generation_time: float
    results: list[BatchResult]
    images: list[str] = Field(description="The pictures of all results, in order.")
    metadata: BatchMetadata


def _per_view(params: Sequence[Any]) -> list[list[float]]:
    if params and isinstance(params[0], list):
        if any(len(view) != CAMERA for view in params):
            raise ValueError("each view needs 25 numbers")
        return [list(view) for view in params]
    if not params or len(params) % CAMERA:
        raise ValueError("25 numbers a view are needed")
    return [list(params[start : start + CAMERA]) for start in range(0, len(params), CAMERA)]


def _check_camera(view: list[float], index: int) -> None:
    """The same rules as the library's `check_cameras`, where torch is not at hand."""
    rows = [view[start : start + 4] for start in (0, 4, 8)]
    rotation = [row[:3] for row in rows]
    products = [sum(a * b for a, b in zip(one, two, strict=True)) for one in rotation for two in rotation]
    (a, b, c), (d, e, f), (g, h, i) = rotation
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    k = view[16:]
    if max(map(abs, view)) > 1e6:
        raise ValueError(f"view {index}: a number is too large")
    if not _close(view[12:16], (0, 0, 0, 1)):
        raise ValueError(f"view {index}: the pose's last row must be 0 0 0 1")
    if not _close(products, (1, 0, 0, 0, 1, 0, 0, 0, 1)):
        raise ValueError(f"view {index}: the rotation is not orthonormal")
    if determinant < 0:
        raise ValueError(f"view {index}: the rotation's determinant must be +1 (this one mirrors)")
    if not _close(k[6:], (0, 0, 1)):
        raise ValueError(f"view {index}: the intrinsics' last row must be 0 0 1")
    if k[0] <= 0 or k[4] <= 0:
        raise ValueError(f"view {index}: the focal lengths must be positive")


def _close(values: Sequence[float], wanted: Sequence[float]) -> bool:
    return all(abs(value - want) <= 1e-3 for value, want in zip(values, wanted, strict=True))


def _resolved(request: Any) -> Any:
    chosen: dict[str, Any] = {"model": request.model or default_model()}
    if "seed" in type(request).model_fields:
        chosen["seed"] = secrets.randbelow(2**32) if request.seed is None else request.seed
    if request.num_views is None:
        chosen["num_views"] = len(request.camera_params or [0])
    return request.model_copy(update=chosen)


def _resolved_batch(batch: Batch) -> Batch:
    return batch.model_copy(update={"requests": [_resolved(item) for item in batch.requests]})


def _needs(request: Any, place: str = "") -> tuple[ModelRef, ...]:
    return (ModelRef("model", request.model or default_model(), f"{place}model"),)


def _needs_all(batch: Batch) -> tuple[ModelRef, ...]:
    return tuple(ref for n, item in enumerate(batch.requests) for ref in _needs(item, f"requests.{n}."))


def _images(job: CompletedJob, output: Mapping[str, Any]) -> list[str]:
    return [base64.b64encode(job.files[name]).decode() for name in output["views"]]


def _reply(job: CompletedJob) -> dict[str, Any]:
    return {
        "request_id": job.id,
        "status": "success",
        "generation_time": job.output["generation_time"],
        "images": _images(job, job.output),
        "metadata": job.output["metadata"],
    }


def _batch_reply(job: CompletedJob) -> dict[str, Any]:
    results = [
        {"index": n, "success": True, "request_id": job.id, "images": _images(job, item), "metadata": item["metadata"]}
        if item["success"]
        else {"index": n, "success": False, "request_id": job.id, "error": item["error"]}
        for n, item in enumerate(job.output["items"])
    ]
    images = [image for result in results for image in result.get("images", [])]
    sides = {item["metadata"]["resolution"] for item in job.output["items"] if item["success"]}
    return {
        "request_id": job.id,
        "status": "success",
        "generation_time": job.output["generation_time"],
        "results": results,
        "images": images,
        "metadata": {
            "resolution": sides.pop() if len(sides) == 1 else None,
            "num_requests": len(results),
            "total_images": len(images),
        },
    }


EXAMPLE = {
    "num_views": 4,
    "resolution": 512,
    "seed": 42,
    "truncation_psi": 0.8,
    "camera_config": {"radius": 2.5, "elevation_range": [-0.2, 0.4], "azimuth_range": [0, 6.28]},
    "style_config": {"age": "young", "gender": "female", "expression": "smile", "hair_color": "brown"},
    "output_format": "png",
}
RED_AND_BLUE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQMAAAD+wSzIAAAABlBMVEXIKB4ePLSw7OFvAAAAE0lEQVR42mPgZ2JgYmBi"
    "YPgAoQEH4QEM14wkXQAAAABJRU5ErkJggg=="
)
STYLE_EXAMPLE = {
    "style_weight": 0.7,
    "preserve_identity": True,
    "num_views": 1,
    "resolution": 512,
    "base_attributes": {"age": "young", "gender": "male"},
}

GENERATE = Operation(
    name="avatar.generate",
    paths=("/generate/avatar",),
    input=Avatar,
    reply_schema=AvatarReply,
    reply=_reply,
    summary="Make an avatar",
    description="One head in 3D, seen from `num_views` sides. The same request and seed make the same pictures.",
    examples={"four views": EXAMPLE},
    resolve=_resolved,
    models=_needs,
)

CUSTOM = Operation(
    name="avatar.custom",
    paths=("/generate/custom",),
    input=Custom,
    reply_schema=AvatarReply,
    reply=_reply,
    summary="Make an avatar from a latent code",
    description="With 25 numbers a view for the camera, flat or nested; without them an orbit.",
    examples={"a latent": {"latent_code": [round(math.sin(n), 3) for n in range(1, LATENT_DIM + 1)], "num_views": 1}},
    resolve=_resolved,
    models=_needs,
)

STYLE_TRANSFER = Operation(
    name="avatar.style_transfer",
    paths=("/generate/style-transfer",),
    input=StyleTransfer,
    reply_schema=AvatarReply,
    reply=_reply,
    summary="Make an avatar in the style of a picture",
    description="A form with the file `style_image` and `config`, the other fields as JSON; or one JSON object.",
    examples={
        "a picture in the request": {"style_image": RED_AND_BLUE, **STYLE_EXAMPLE},
        "a picture on the web": {"style_image": "https://example.com/painting.jpg", "style_weight": 0.7},
    },
    files={"style_image": FileField(IMAGE_TYPES, MAX_STYLE_BYTES)},
    resolve=_resolved,
    models=_needs,
)

BATCH = Operation(
    name="avatar.generate_batch",
    paths=("/generate/batch",),
    input=Batch,
    reply_schema=AvatarBatchReply,
    reply=_batch_reply,
    summary="Make several avatars (an object with `requests`)",
    description="An object with `requests` makes avatars, as one job. One that fails does not touch the others.",
    examples={
        "avatars": {
            "requests": [
                {"style_config": {"age": "young", "gender": "female"}, "num_views": 2},
                {"style_config": {"age": "elderly", "gender": "male"}, "num_views": 4},
            ],
            "resolution": 512,
            "output_format": "png",
        }
    },
    accepts=lambda body: isinstance(body, dict) and "requests" in body,
    resolve=_resolved_batch,
    models=_needs_all,
)

AVATAR = Family(
    name="avatar",
    title="3D avatars (Aetherist)",
    max_runtime=900,
    operations=(GENERATE, CUSTOM, STYLE_TRANSFER, BATCH),
    discover=discover,
)
