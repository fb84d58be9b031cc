"""Looks into a model's files before anything loads them: configurations that would run code, and broken weights."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path, PurePosixPath
from typing import Any

from workers.foreign_code import Untrusted, objects, pipeline_parts, trusted_json
from workers.models.faults import UnsafeModel
from workers.models.selection import INDEX

# What diffusers may be asked to make; a name that it does not know is looked for in the repository's code.
CLASSES = frozenset(
    {
        *("StableDiffusionPipeline", "StableDiffusionXLPipeline", "LatentConsistencyModelPipeline"),
        *("Flux2KleinPipeline", "Flux2Pipeline", "FluxPipeline", "QwenImageEditPlusPipeline"),
        *("UNet2DModel", "UNet2DConditionModel", "AutoencoderKL", "AutoencoderTiny", "AutoencoderKLFlux2"),
        *("AutoencoderKLQwenImage", "FluxTransformer2DModel", "Flux2Transformer2DModel", "QwenImageTransformer2DModel"),
        *("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "LCMScheduler"),
        *("UniPCMultistepScheduler", "HeunDiscreteScheduler", "DEISMultistepScheduler", "EulerDiscreteScheduler"),
        *("EulerAncestralDiscreteScheduler", "DPMSolverSinglestepScheduler", "DPMSolverMultistepScheduler"),
        *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"),
        "FlowMatchHeunDiscreteScheduler",
    }
)
MAX_HEADER = 100_000_000  # bytes; the format's own limit
DTYPES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2},
    **{"U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8},
}  # bytes of a number


def scan(path: Path, name: str) -> None:
    """Raise UnsafeModel if this file must not be loaded; `name` is what it is, or will be, called in its model."""
    suffix = PurePosixPath(name).suffix
    if suffix == ".json":
        said = scan_json(path, name)
        if name == INDEX:
            components(said)
    elif suffix == ".safetensors":
        scan_safetensors(path, name)
    elif suffix == ".onnx":
        _scan_onnx(path, name)


def scan_json(path: Path, name: str) -> Any:
    """What the file says; raises UnsafeModel for a key or class that leads to code, at any depth."""
    try:
        value = trusted_json(path, name)
    except Untrusted as error:
        raise UnsafeModel(f"{error}.") from None
    for found in objects(value, name):
        if "_class_name" in found:
            _check_class(found["_class_name"], name)
    return value


def components(index: Any) -> list[str]:
    """The folders that a model_index.json names; raises UnsafeModel for a part that is not a library's."""
    if not isinstance(index, dict) or "_class_name" not in index:
        raise UnsafeModel("model_index.json does not say which pipeline it is.")
    try:
        return pipeline_parts(index)
    except Untrusted as error:
        raise UnsafeModel(f"{error}.") from None


def scan_safetensors(path: Path, name: str) -> None:
    """Raise UnsafeModel unless the header is JSON whose tensors fill the rest of the file without gap or overlap."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER, size - 8):
                raise ValueError
            header = json.loads(file.read(length).decode())
        spans = sorted(_span(entry) for key, entry in header.items() if key != "__metadata__")
        ends = [0, *(end for _, end in spans)]
        if [start for start, _ in spans] != ends[:-1] or ends[-1] != size - 8 - length:
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error):
        raise UnsafeModel(f"{name} is not a whole safetensors file.") from None


def _span(entry: dict[str, Any]) -> tuple[int, int]:
    """Where a tensor's bytes are; they are as many as its shape and type need."""
    start, end = entry["data_offsets"]
    need = DTYPES[entry["dtype"]]
    for side in entry["shape"]:
        if type(side) is not int or side < 0:
            raise ValueError
        need *= side
    if type(start) is not int or type(end) is not int or end - start != need:
        raise ValueError
    return start, end


def _scan_onnx(path: Path, name: str) -> None:
    """A protobuf that begins with its version of the format; onnxruntime checks the rest when it loads it."""
    with path.open("rb") as file:
        if file.read(1) != b"\x08":
            raise UnsafeModel(f"{name} is not an ONNX file.")


def _check_class(value: object, name: str) -> None:
    if not isinstance(value, str) or value not in CLASSES:
        said = value if isinstance(value, str) and re.fullmatch(r"\w{1,80}", value) else "something else"
        raise UnsafeModel(f"{name} asks for the class {said}, which no family here makes.")
