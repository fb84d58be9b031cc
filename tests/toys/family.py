"""A family for tests and benchmarks: it works in countable steps, makes files, and fails on request.

`toy.stamp` does the same with a picture, `toy.listen` with a sound.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from shared.family import Family, FileField, FileInput, JobInput, ModelCard, ModelRef, Operation, Schema
from shared.signatures import AUDIO_TYPES
from workers.families import Registration

MAX_PICTURE = 2_500_000  # bytes; some chunks, so that a large file is not held in one piece
MAX_SOUND = 5_000_000  # bytes
MAX_SECONDS = 60
Failing = Literal[
    "", "input", "bug", "memory", "once", "tell",
    "crash", "crash_once", "fault", "segfault", "exit", "hang", "hang_in_c", "hang_with_the_lock", "deaf",
]  # fmt: skip


class ToyInput(JobInput):
    """`steps` of `step_seconds` each, then `files` of `size` bytes made from `seed`.

    `marked` files begin with a line that names the job and the attempt; `until` is a file that is waited for. With a
    `model` it may fail only until it is mended: until the file `mended` is there.
    """

    steps: int = Field(0, ge=0, le=10_000)
    step_seconds: float = Field(0.0, ge=0, le=600)
    files: int = Field(0, ge=0, le=10)
    size: int = Field(0, ge=0, le=1_000_000_000)
    seed: int = Field(0, ge=0)
    say: str = ""
    marked: bool = False
    until: str = ""
    allocate: int = Field(0, ge=0, le=4_000_000_000)
    fail: Failing = ""
    mended: str = ""
    model: Literal["", "toy", "brittle"] = ""
    preview: bool = False


class StampInput(ToyInput):
    """A picture; the stamp is a file that tells what the runner saw, and the copy is the picture again."""

    picture: FileInput


class ListenInput(ToyInput):
    """A sound; `sound.json` tells what the runner heard."""

    sound: FileInput


class ToyReply(Schema):
    """What a toy says when it is done."""

    request_id: str
    said: str
    steps: int
    files: int


def _reply(job: Any) -> dict[str, Any]:
    return {"request_id": job.id, **job.output}


TOY = Family(
    name="toy",
    title="Toys",
    max_runtime=60,
    operations=(
        Operation(
            name="toy.play",
            paths=("/toys/play", "/toys/{say}/play"),
            input=ToyInput,
            reply_schema=ToyReply,
            reply=_reply,
            summary="Play",
            description="Counts steps.",
            examples={"nothing": {}},
            models=lambda request: (ModelRef("model", request.model, "model"),) if request.model else (),
            reply_needs_files=False,
            accepted=lambda job_id, request: {"toy_id": job_id, "will_say": request.say},
        ),
        Operation(
            name="toy.stamp",
            paths=("/toys/stamp",),
            input=StampInput,
            reply_schema=ToyReply,
            reply=_reply,
            summary="Stamp a picture",
            description="A form with the file `picture` and `config`, the other fields as JSON; or one JSON object.",
            examples={"said": {"picture": "data:image/png;base64,iVBORw0KGgo=", "say": "seen"}},
            files={"picture": FileField(("image/png", "image/jpeg", "image/webp"), MAX_PICTURE)},
            reply_needs_files=False,
        ),
        Operation(
            name="toy.listen",
            paths=("/toys/listen",),
            input=ListenInput,
            reply_schema=ToyReply,
            reply=_reply,
            summary="Listen to a sound",
            description="A form with the file `sound` and `config`, the other fields as JSON; or one JSON object.",
            examples={"heard": {"sound": "data:audio/flac;base64,ZkxhQw==", "say": "heard"}},
            files={"sound": FileField(AUDIO_TYPES, MAX_SOUND)},
            reply_needs_files=False,
        ),
    ),
    discover=lambda: (ModelCard("model", "toy", "Toy"), ModelCard("model", "brittle", "Brittle toy")),
)

REGISTRATIONS = [Registration(TOY, "tests.toys.runner:ToyRunner")]
