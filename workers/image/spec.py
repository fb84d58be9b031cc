"""What the image family accepts and answers: the reference API 001, with a model, a scheduler and LoRAs to choose."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, RootModel, StringConstraints, field_validator, model_validator

from shared.family import MAX_SEED, CompletedJob, Family, JobInput, ModelRef, Operation, Schema
from workers.image.catalog import default_model, discover

Text = Annotated[str, StringConstraints(max_length=2000), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Scheduler = Literal[
    "ddim", "ddpm", "dpmsolver++", "dpmsolver++_karras", "euler", "euler_ancestral", "heun", "lms", "pndm", "unipc"
]
PROMPT = "a large red circle on a blue background"
OTHERS_FIELDS = {"reference_images", "reference_sets", "category"}  # of the reference family, which shares /generate


class Lora(Schema):
    """A LoRA from the catalog, and how strongly it acts."""

    name: Name
    weight: float = Field(1.0, ge=-2, le=2)


class GenerateInput(JobInput):
    """A picture, or several, from a text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": PROMPT, "seed": 42}]})

    prompt: Text = Field(
        description="What the picture shows.",
        examples=[PROMPT],
        json_schema_extra={"minLength": 1, "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"},
    )
    negative_prompt: Text = Field("", description="What it must not show.")
    num_inference_steps: int = Field(20, ge=1, le=100, description="Denoising steps.")
    guidance_scale: float = Field(7.5, ge=1, le=20, description="How closely to follow the prompt.")
    width: int = Field(512, ge=256, le=1024, multiple_of=8, description="Pixels.")
    height: int = Field(512, ge=256, le=1024, multiple_of=8, description="Pixels.")
    num_images: int = Field(1, ge=1, le=4)
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="Picture i uses seed + i. Left out, a random one is chosen and told."
    )
    model: Name | None = Field(None, description="A name of GET /models/status; left out, the server's default.")
    scheduler: Scheduler | None = Field(None, description="Left out, the model's own.")
    loras: list[Lora] = Field([], max_length=4, description="LoRAs by name, several at once.")
    preview: bool = Field(False, description="Tell small pictures of the unfinished work with the progress.")

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("prompt must not be empty")
        return prompt

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.seed is not None and self.seed + self.num_images - 1 > MAX_SEED:
            raise ValueError("seed + num_images - 1 must not exceed 9223372036854775807")
        if self.scheduler == "pndm" and self.num_inference_steps < 4:
            raise ValueError("the pndm scheduler needs at least 4 num_inference_steps")
        names = [lora.name for lora in self.loras]
        if len(set(names)) != len(names):
            raise ValueError("loras must name each LoRA once")
        return self


class BatchInput(JobInput):
    """Several requests as one job; each succeeds or fails for itself.

    The array has no place for the job's priority: `resolve` makes it its items' highest.
    """

    items: list[GenerateInput] = Field(min_length=1, max_length=16)


class BatchBody(RootModel[Annotated[list[GenerateInput], Field(min_length=1, max_length=16)]]):
    """A JSON array of 1 to 16 requests as POST /generate takes them."""

    model_config = ConfigDict(json_schema_extra={"examples": [[{"prompt": PROMPT}]]})


class ModelInfo(Schema):
    """What made the pictures: enough to make them again."""

    base_model: str
    model: str
    model_sha256: str
    lora_applied: bool = Field(description="True only if LoRA layers were active in the denoiser.")
    loras: list[Lora]
    device: str
    inference_steps: int
    guidance_scale: float
    scheduler: str
    resolution: str = Field(examples=["512x512"])
    seed: int
    seeds: list[int]


class GenerateReply(Schema):
    """The synchronous answer of POST /generate."""

    request_id: str
    images: list[str] = Field(description="data:image/png;base64,…")
    prompt: str
    negative_prompt: str
    generation_time: float = Field(description="Seconds.")
    model_info: ModelInfo


class BatchItem(Schema):
    """One item's result, or why there is none."""

    index: int
    success: bool
    result: GenerateReply | None = None
    error: str | None = None


class BatchReply(Schema):
    """The synchronous answer of POST /generate/batch."""

    request_id: str
    results: list[BatchItem]


def _resolved(request: GenerateInput) -> GenerateInput:
    seed = secrets.randbelow(2**32) if request.seed is None else request.seed
    return request.model_copy(update={"seed": seed, "model": request.model or default_model()})


def _resolved_batch(batch: BatchInput) -> BatchInput:
    return BatchInput(
        items=[_resolved(item) for item in batch.items],
        priority=max((item.priority for item in batch.items if item.priority is not None), default=None),
    )


def _needs(request: GenerateInput, place: str = "") -> tuple[ModelRef, ...]:
    loras = (ModelRef("adapter", lora.name, f"{place}loras.{n}.name") for n, lora in enumerate(request.loras))
    return (ModelRef("model", request.model or "", f"{place}model"), *loras)


def _needs_all(batch: BatchInput) -> tuple[ModelRef, ...]:
    return tuple(ref for n, item in enumerate(batch.items) for ref in _needs(item, f"{n}."))


def _result(job: CompletedJob, output: Mapping[str, Any]) -> dict[str, Any]:
    names = output["files"]
    images = ["data:image/png;base64," + base64.b64encode(job.files[name]).decode() for name in names]
    shown = {key: output[key] for key in ("prompt", "negative_prompt", "generation_time", "model_info")}
    return {"request_id": job.id, "images": images, **shown}


def _batch_reply(job: CompletedJob) -> dict[str, Any]:
    results = [
        {"index": n, "success": True, "result": _result(job, item["result"])}
        if item["success"]
        else {"index": n, "success": False, "error": item["error"]}
        for n, item in enumerate(job.output["items"])
    ]
    return {"request_id": job.id, "results": results}


GENERATE = Operation(
    name="image.generate",
    paths=("/generate", "/generate/text"),
    input=GenerateInput,
    reply_schema=GenerateReply,
    reply=lambda job: _result(job, job.output),
    summary="Make pictures from a text",
    description="Stable Diffusion. Picture i uses `seed` + i; the same request and seed make the same picture.",
    examples={"a red circle": {"prompt": PROMPT, "seed": 42}},
    accepts=lambda body: isinstance(body, dict) and not OTHERS_FIELDS & body.keys(),
    resolve=_resolved,
    models=_needs,
)

GENERATE_BATCH = Operation(
    name="image.generate_batch",
    paths=("/generate/batch",),
    input=BatchInput,
    body_schema=BatchBody,
    reply_schema=BatchReply,
    reply=_batch_reply,
    summary="Make pictures from several texts",
    description="One job for 1 to 16 requests. An item that fails while it runs does not touch the others.",
    examples={"two": [{"prompt": PROMPT}, {"prompt": "a small green star on a white background"}]},
    accepts=lambda body: isinstance(body, list),
    parse=lambda body: {"items": body},
    resolve=_resolved_batch,
    models=_needs_all,
    wants_preview=lambda batch: any(item.preview for item in batch.items),
)

IMAGE = Family(
    name="image",
    title="Pictures from text (Stable Diffusion)",
    max_runtime=900,
    operations=(GENERATE, GENERATE_BATCH),
    discover=discover,
    examples=(
        {
            "name": "Abstract Art",
            "prompt": "abstract geometric patterns in vibrant colors, artistic composition",
            "negative_prompt": "photorealistic, realistic, photographic",
        },
        {
            "name": "Minimalist Design",
            "prompt": "minimalist line art, geometric forms, clean design, white background",
            "negative_prompt": "complex, busy, colorful, detailed",
        },
        {
            "name": "Gradient Background",
            "prompt": "smooth gradient background, soft colors, abstract composition",
            "negative_prompt": "text, people, photographic",
        },
    ),
)
