"""Which avatar models lie on this machine. No torch: workers report it, the gateway shows it."""

from __future__ import annotations

from pathlib import Path

from shared.family import ModelCard
from shared.settings import get_settings
from workers.model_folders import describe

HOUSE_MODEL = "house-heads"
HOUSE = Path(__file__).parent / "house" / "weights" / "heads"
FILES = ("config.yaml", "generator.safetensors", "attributes.yaml", "attributes.safetensors")


def find_models() -> dict[str, Path]:
    """The house model, every complete folder under MODELS/avatar, and the folder that ATELIER_AVATAR_MODEL may name."""
    settings = get_settings()
    places = {HOUSE_MODEL: HOUSE}
    root = settings.models_dir / "avatar"
    if root.is_dir():
        places |= {path.name: path for path in sorted(root.iterdir())}
    if settings.avatar_model.startswith("/"):
        places[default_model()] = Path(settings.avatar_model)
    return {name: path for name, path in places.items() if all((path / file).is_file() for file in FILES)}


def default_model() -> str:
    """The model of a request that names none; a folder goes by its last name, so that no client sees paths."""
    return Path(get_settings().avatar_model).name


def discover() -> tuple[ModelCard, ...]:
    """What this worker can serve."""
    return tuple(_card(name, path) for name, path in find_models().items())


def _card(name: str, path: Path) -> ModelCard:
    if name == HOUSE_MODEL:
        title = "Small 3D heads, drawn by the house"
        return describe("model", name, path, task="avatar", title=title, source="house", licence="MIT")
    return describe("model", name, path, task="avatar")
