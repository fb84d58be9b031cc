"""Which speech models lie on this machine. No torch: workers report it, the gateway shows it."""

from __future__ import annotations

from pathlib import Path

from shared.family import ModelCard
from shared.settings import get_settings
from workers.foreign_code import foreign_code
from workers.model_folders import describe as describe_folder
from workers.model_folders import json_object, tell_skipped
from workers.speech.architectures import ESPEAK, SPEAKING, served
from workers.speech.describing import describe
from workers.speech.model import SpeechModel

HOUSE_VOICE, HOUSE_EAR = "house-voice", "house-ear"
HOUSE_EAR_FOLDER = Path(__file__).parent / "house" / "weights" / "ear"


def default_voice() -> str:
    """The model of a request that names none; a folder goes by its last name, so that no client sees paths."""
    return Path(get_settings().speech_model).name


def default_ear() -> str:
    """The same for a recording."""
    return Path(get_settings().hearing_model).name


def find_models() -> dict[str, SpeechModel]:
    """The house's models, every usable folder under MODELS/speech, and those that the two settings may name."""
    settings = get_settings()
    root = settings.models_dir / "speech"
    places = {path.name: path for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}
    if settings.speech_model.startswith("/"):
        places[default_voice()] = Path(settings.speech_model)
    if settings.hearing_model.startswith("/"):
        places[default_ear()] = Path(settings.hearing_model)
    if HOUSE_EAR_FOLDER.is_dir():
        places[HOUSE_EAR] = HOUSE_EAR_FOLDER
    found = {name: read_model(name, path) for name, path in places.items()}
    house = {HOUSE_VOICE: SpeechModel(HOUSE_VOICE, None, SPEAKING, ESPEAK)}
    return house | {name: model for name, model in found.items() if model}


def read_model(name: str, path: Path) -> SpeechModel | None:
    """The folder if it can be served; else None, and the log says why."""
    config = json_object(path / "config.json")
    architectures = config.get("architectures") if config else None
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    known = served(architecture)
    if config is None or known is None:
        reason = "no config.json" if config is None else f"architecture {architecture or 'unnamed'} is not served"
    elif problem := foreign_code(path):
        reason = problem
    elif not list(path.glob("*.safetensors")):
        reason = "no safetensors"
    else:
        task, engine = known
        return SpeechModel(name, path, task, engine, config, json_object(path / "atelier.json") or {})
    tell_skipped(path, reason)
    return None


def discover() -> tuple[ModelCard, ...]:
    """What this worker can serve."""
    return tuple(_card(model) for model in find_models().values())


def _card(model: SpeechModel) -> ModelCard:
    details = describe(model)
    if model.path is None:
        title, licence = "eSpeak NG, the house's voice", "GPL-3.0-or-later"
        return ModelCard("model", model.name, title, details, task=model.task, source="house", licence=licence)
    title = str(model.card.get("title", model.name))
    source = "house" if model.path == HOUSE_EAR_FOLDER else None
    return describe_folder(
        "model", model.name, model.path, task=model.task, title=title, source=source, details=details
    )
