"""Which Stable Diffusion folders and LoRAs lie on this machine. No torch: workers report it, the gateway shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.family import ModelCard
from shared.logging import get_logger
from shared.settings import get_settings

log = get_logger(__name__)

HOUSE = Path(__file__).parent / "house" / "weights"
HOUSE_MODEL, HOUSE_LORA = "house-shapes", "house-sketch"
LORA_FILE = "pytorch_lora_weights.safetensors"
LIBRARIES = {"diffusers", "transformers"}  # a folder that names any other would run its own code


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder in Stable Diffusion's layout; `card` is its optional atelier.json, `variant` "fp16" or None."""

    name: str
    path: Path
    variant: str | None
    card: dict[str, Any] = field(default_factory=dict)


def find_models() -> dict[str, ModelFolder]:
    """The house model, every usable folder under MODELS/image, and the folder that ATELIER_IMAGE_MODEL may name."""
    settings = get_settings()
    places = {HOUSE_MODEL: HOUSE / "shapes"}
    root = settings.models_dir / "image"
    if root.is_dir():
        places |= {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and path.name != "loras"}
    if settings.image_model.startswith("/"):
        places[settings.image_model] = Path(settings.image_model)
    found = {name: read_model(name, path) for name, path in places.items()}
    return {name: folder for name, folder in found.items() if folder}


def read_model(name: str, path: Path) -> ModelFolder | None:
    """The folder if it can be served; else None, and the log says why."""
    if reason := _unusable(path):
        log.warning("model folder skipped", folder=str(path), reason=reason)
        return None
    card = path / "atelier.json"
    plain = (path / "unet" / "diffusion_pytorch_model.safetensors").exists()
    return ModelFolder(name, path, None if plain else "fp16", json.loads(card.read_text()) if card.exists() else {})


def find_adapters() -> dict[str, Path]:
    """LoRA files by name: the house's, and those under MODELS/image/loras (a file, or a folder that holds one)."""
    root = get_settings().models_dir / "image" / "loras"
    found = {HOUSE_LORA: HOUSE / "sketch-lora" / LORA_FILE}
    if root.is_dir():
        for path in sorted(root.iterdir()):
            found[path.stem if path.suffix else path.name] = path / LORA_FILE if path.is_dir() else path
    return {name: path for name, path in found.items() if path.is_file() and path.suffix == ".safetensors"}


def discover() -> tuple[ModelCard, ...]:
    """What this worker can serve."""
    return (*_model_cards(), *_adapter_cards())


def _model_cards() -> Iterator[ModelCard]:
    for name, folder in find_models().items():
        yield ModelCard("model", name, folder.card.get("title", name), {"variant": folder.variant} | folder.card)


def _adapter_cards() -> Iterator[ModelCard]:
    for name in find_adapters():
        base = {"base": HOUSE_MODEL} if name == HOUSE_LORA else {}
        yield ModelCard("adapter", name, name, base)


def _unusable(path: Path) -> str | None:
    index = path / "model_index.json"
    if not index.is_file():
        return "no model_index.json"
    try:
        parts = json.loads(index.read_text())
    except ValueError:
        return "model_index.json is not JSON"
    if parts.get("_class_name") != "StableDiffusionPipeline":
        return f"class {parts.get('_class_name')} is not StableDiffusionPipeline"
    named = {part[0] for part in parts.values() if isinstance(part, list) and part[0]}
    if foreign := {name for name in named if name not in LIBRARIES and name != "stable_diffusion"}:
        return f"it names code of its own: {', '.join(sorted(foreign))}"
    if not list((path / "unet").glob("*.safetensors")):
        return "no safetensors in unet/"
    return None
