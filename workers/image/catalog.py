"""Which Stable Diffusion folders and LoRAs lie on this machine. No torch: workers report it, the gateway shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.family import ModelCard
from shared.settings import get_settings
from workers.foreign_code import foreign_code
from workers.model_folders import describe, json_object, tell_skipped

HOUSE = Path(__file__).parent / "house" / "weights"
HOUSE_MODEL, HOUSE_LORA = "house-shapes", "house-sketch"
LORA_FILE = "pytorch_lora_weights.safetensors"
NETWORKS = ("unet", "vae", "text_encoder")


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
        places[default_model()] = Path(settings.image_model)
    found = {name: read_model(name, path) for name, path in places.items()}
    return {name: folder for name, folder in found.items() if folder}


def default_model() -> str:
    """The model of a request that names none; a folder goes by its last name, so that no client sees paths."""
    return Path(get_settings().image_model).name


def read_model(name: str, path: Path) -> ModelFolder | None:
    """The folder if it can be served; else None, and the log says why."""
    if reason := _unusable(path):
        tell_skipped(path, reason)
        return None
    plain = [file for file in (path / "unet").glob("*.safetensors") if ".fp16" not in file.suffixes]
    return ModelFolder(name, path, None if plain else "fp16", json_object(path / "atelier.json") or {})


def find_adapters() -> dict[str, Path]:
    """LoRA files by name: the house's, and those under MODELS/image/loras (a file, or a folder that holds one)."""
    root = get_settings().models_dir / "image" / "loras"
    found = {HOUSE_LORA: HOUSE / "sketch-lora" / LORA_FILE}
    if root.is_dir():
        for path in sorted(root.iterdir()):
            found |= {path.name: path / LORA_FILE} if path.is_dir() else {path.stem: path}
    return {name: path for name, path in found.items() if path.is_file() and path.suffix == ".safetensors"}


def discover() -> tuple[ModelCard, ...]:
    """What this worker can serve."""
    return (*_model_cards(), *_adapter_cards())


def _model_cards() -> Iterator[ModelCard]:
    for name, folder in find_models().items():
        yield describe(
            "model",
            name,
            folder.path,
            task="text-to-image",
            title=folder.card.get("title"),
            source="house" if name == HOUSE_MODEL else None,
            licence=folder.card.get("license"),
            weights=_loaded_weights(folder),
            details={"variant": folder.variant} | folder.card,
        )


def _loaded_weights(folder: ModelFolder) -> list[Path]:
    """The files of the variant that is loaded; a folder may hold both."""
    files = [file for network in NETWORKS for file in (folder.path / network).glob("*.safetensors")]
    return [file for file in files if (".fp16" in file.suffixes) == (folder.variant == "fp16")]


def _adapter_cards() -> Iterator[ModelCard]:
    for name, path in find_adapters().items():
        if name == HOUSE_LORA:
            yield describe("adapter", name, path, source="house", licence="MIT", details={"base": HOUSE_MODEL})
        else:
            yield describe("adapter", name, path.parent if path.parent.name == name else path)


def _unusable(path: Path) -> str | None:
    if not (path / "model_index.json").is_file():
        return "no model_index.json"
    parts = json_object(path / "model_index.json")
    if parts is None:
        return "model_index.json is not a JSON object"
    if parts.get("_class_name") != "StableDiffusionPipeline":
        return f"class {parts.get('_class_name')} is not StableDiffusionPipeline"
    if problem := foreign_code(path):
        return problem
    for network in NETWORKS:
        if not list((path / network).glob("*.safetensors")):
            return f"no safetensors in {network}/"
    return None
