"""Which files of a repository or folder make a model that can be loaded: safetensors with their configuration.

Everything else stays where it is, above all code and pickles. Of several copies of the same weights one is taken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from enum import Enum
from pathlib import PurePosixPath

from workers.models.faults import UnsafeModel
from workers.models.rules import LORA, ONNX

PLAIN = {".json", ".txt", ".model"}  # configuration, vocabularies, sentencepiece
PICKLES = {".bin", ".pt", ".pt2", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5", ".gguf", ".npy", ".npz"}
# Of other copies of the weights: an index or a configuration that would only mislead.
OTHERS_JSON = re.compile(r"(\.bin\.index|^(flax|tf|pytorch)_.*)\.json$")
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]{0,149}")
DEEPEST = 4  # parts of a path
MOST_FILES = 300

WEIGHTS = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model)(?P<variant>\.[a-z]\w*)?(?P<shard>-\d{5}-of-\d{5})?(?P<late>\.[a-z]\w*)?"
    r"(\.safetensors|\.safetensors\.index(?P<index>\.[a-z]\w*)?\.json)"
)
INDEX = "model_index.json"  # of a diffusers pipeline
LORA_FILE = "pytorch_lora_weights.safetensors"
ONNX_FILES = ("model.onnx", "onnx/model.onnx")
ONNX_FILE = "model.onnx"


class Layout(Enum):
    """How a model's folder is laid out."""

    DIFFUSERS = "a diffusers pipeline"
    TRANSFORMERS = "a transformers model"
    LORA = "a LoRA"
    ONNX = "an ONNX model"


def layout_of(task: str) -> Layout:
    """The layout that the family of this task loads."""
    if task in ("text-to-image", "image-to-image"):
        return Layout.DIFFUSERS
    return {LORA: Layout.LORA, ONNX: Layout.ONNX}.get(task, Layout.TRANSFORMERS)


def select(names: Iterable[str], layout: Layout, components: Collection[str] = ()) -> dict[str, str]:
    """The files to take (path there → path in the model's folder); `components` are a pipeline's folders.

    Raises UnsafeModel if a path leads elsewhere, or if there is nothing that could be loaded safely.
    """
    everything = [_checked(name) for name in names]
    usual = [name for name in everything if _is_usual(name)]
    if layout is Layout.LORA:
        chosen = _lora(usual)
    elif layout is Layout.ONNX:
        chosen = _onnx(usual)
    elif layout is Layout.DIFFUSERS:
        chosen = _pipeline(usual, components)
    else:
        chosen = _transformers(usual)
    if not any(name.endswith((".safetensors", ".onnx")) for name in chosen):
        raise UnsafeModel(_nothing(everything, layout))
    if len(chosen) > MOST_FILES:
        raise UnsafeModel(f"The repository has more than {MOST_FILES} files to take.")
    return chosen


def _checked(name: str) -> str:
    if name.startswith("/") or "\\" in name or "\x00" in name or ".." in PurePosixPath(name).parts or not name:
        raise UnsafeModel("The repository names a file outside of itself.")
    return name


def _is_usual(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= DEEPEST and all(PART.fullmatch(part) for part in parts)


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix in PLAIN and not OTHERS_JSON.search(path.name) and not WEIGHTS.fullmatch(path.name)


def _in_root(names: Iterable[str]) -> list[str]:
    return [name for name in names if "/" not in name]


def _transformers(names: Collection[str]) -> dict[str, str]:
    root = _in_root(names)
    if "config.json" not in root:
        return {}
    return _same([name for name in root if _is_plain(name)] + _weights(root, None))


def _pipeline(names: Collection[str], components: Collection[str]) -> dict[str, str]:
    """The pipeline's own folders: single-file copies of all of it in the root, or other folders, are not needed."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folder, _, rest = name.partition("/")
        if folder in components and "/" not in rest:
            by_folder[folder].append(name)
    weighty = [files for files in by_folder.values() if _weights(files, None) or _weights(files, "fp16")]
    halves = all(_weights(files, "fp16") for files in weighty)
    taken = [INDEX] if INDEX in names else []
    for files in by_folder.values():
        taken += [name for name in files if _is_plain(name)]
        taken += _weights(files, "fp16" if halves else None)
    return _same(taken)


def _weights(names: Iterable[str], variant: str | None) -> list[str]:
    """The weights of one variant in one folder, with their index; one file rather than the same in pieces."""
    found = []
    for name in names:
        match = WEIGHTS.fullmatch(PurePosixPath(name).name)
        if match and _variant(match) == variant:
            found.append((name, match))
    whole = [name for name, match in found if not match["shard"] and name.endswith(".safetensors")]
    return whole or [name for name, _ in found] if any(name.endswith(".safetensors") for name, _ in found) else []


def _variant(match: re.Match[str]) -> str | None:
    return (match["variant"] or match["late"] or match["index"] or "").removeprefix(".") or None


def _lora(names: Collection[str]) -> dict[str, str]:
    files = [name for name in _in_root(names) if name.endswith(".safetensors")]
    if LORA_FILE in files:
        return {LORA_FILE: LORA_FILE}
    if len(files) > 1:
        raise UnsafeModel(
            f"The repository has several LoRAs ({', '.join(sorted(files)[:10])}); give the address of one, source url."
        )
    return {name: LORA_FILE for name in files}


def _onnx(names: Collection[str]) -> dict[str, str]:
    found = next((name for name in ONNX_FILES if name in names), None)
    return {found: ONNX_FILE} | _same([name for name in _in_root(names) if _is_plain(name)]) if found else {}


def _same(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _nothing(names: Collection[str], layout: Layout) -> str:
    pickles = sorted(name for name in names if PurePosixPath(name).suffix in PICKLES)
    if layout is Layout.DIFFUSERS and INDEX not in names:
        return f"There is no {INDEX}: this is not a diffusers pipeline."
    if layout is Layout.TRANSFORMERS and "config.json" not in names:
        return "There is no config.json: this is not a transformers model."
    weights = "ONNX file (model.onnx)" if layout is Layout.ONNX else "safetensors"
    if pickles:
        return f"There are no {weights} that make {layout.value}, and pickles ({pickles[0]}) are never loaded here."
    return f"There are no {weights} that make {layout.value}."
