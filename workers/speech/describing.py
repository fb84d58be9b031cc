"""What a model that speaks says of itself in the catalog, read from its files: voices, languages, limits. No torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from workers.model_folders import json_object
from workers.speech.architectures import SPEAKING
from workers.speech.espeak_data import espeak_languages, espeak_voices
from workers.speech.fitting import MAX_CHARACTERS
from workers.speech.hearing.abilities import ear_details
from workers.speech.model import SpeechModel
from workers.speech.moods import MOODS

ESPEAK_RATE = 22_050  # Hz
BARK_CHARACTERS = 1000
LIBRARIES = {
    "soundfile": "Reads and writes WAV, FLAC, MP3 and Ogg.",
    "transformers": "Networks that speak and hear.",
    "torch": "What they are made of.",
    "espeakng-loader": "eSpeak NG, the house voice.",
    "python-stretch": "Speed and pitch.",
    "num2words": "Numbers in words.",
    "sentencex": "Where sentences end.",
    "librosa": "Not needed: python-stretch and scipy do its work here.",
    "torchaudio": "Not needed: soundfile and scipy do its work here.",
}
NEUTRAL_VOICE = "neutral"  # of SpeechT5: the x-vector of nobody, 512 zeros, as the library's own examples have it
PRESETS = "speaker_embeddings_path.json"  # Bark's own list of its voices


def describe(model: SpeechModel) -> dict[str, Any]:
    """The card's details. Languages are empty where the folder does not tell; what hears has no `voices`.

    `speaker` says that the model takes an x-vector.
    """
    if model.task != SPEAKING:
        return ear_details(model)
    architecture = model.config["architectures"][0] if model.path else "eSpeak NG"
    own = DESCRIPTIONS.get(architecture, _any)(model)
    languages = model.card.get("languages")
    told = {"languages": [str(language) for language in languages]} if isinstance(languages, list) else {}
    return {"engine": architecture, "max_characters": MAX_CHARACTERS, "voices": [], "languages": []} | own | told


def _espeak(_: SpeechModel) -> dict[str, Any]:
    return {
        "voices": espeak_voices(),
        "languages": espeak_languages(),
        "emotions": list(MOODS),
        "sample_rate": ESPEAK_RATE,
        "libraries": libraries(),
    }


def _speecht5(model: SpeechModel) -> dict[str, Any]:
    voices = sorted(path.stem for path in model.folder.glob("voices/*.safetensors"))
    vocoder = find_vocoder(model)
    config = (json_object(vocoder / "config.json") or {}) if vocoder else {}
    rate = _number(config.get("sampling_rate"))
    return {"voices": [*voices, NEUTRAL_VOICE], "speaker": True, "sample_rate": rate}


def _vits(model: SpeechModel) -> dict[str, Any]:
    speakers = _number(model.config.get("num_speakers")) or 1
    language = (json_object(model.folder / "tokenizer_config.json") or {}).get("language")
    return {
        "voices": [str(number) for number in range(speakers)] if speakers > 1 else [],
        "languages": [language] if isinstance(language, str) else [],
        "sample_rate": _number(model.config.get("sampling_rate")),
    }


def _bark(model: SpeechModel) -> dict[str, Any]:
    voices = sorted((json_object(model.folder / PRESETS) or {}).keys() - {"repo_or_path"})
    languages = {Path(voice).name.split("_speaker")[0] for voice in voices if "_speaker" in voice}
    rate = _number((json_object(model.folder / "generation_config.json") or {}).get("sample_rate"))
    return {
        "voices": voices,
        "languages": sorted(languages),
        "max_characters": BARK_CHARACTERS,
        "sample_rate": rate,
    }


def _any(model: SpeechModel) -> dict[str, Any]:
    generation = json_object(model.folder / "generation_config.json") or {}
    spoken = generation.get("t2u_lang_code_to_id")  # SeamlessM4T's
    return {
        "languages": sorted(spoken) if isinstance(spoken, dict) else [],
        "sample_rate": _number(model.config.get("sampling_rate", model.config.get("sample_rate"))),
    }


def _number(value: object) -> int | None:
    """A file may say anything in its place."""
    return value if isinstance(value, int) else None


@cache
def libraries() -> dict[str, Any]:
    """Which libraries of this family's work are installed here, and in which version; nothing is imported."""
    return {name: _library(name, what) for name, what in LIBRARIES.items()}


def _library(name: str, description: str) -> dict[str, Any]:
    try:
        found = version(name)
    except PackageNotFoundError:
        found = None
    return {"available": found is not None, "version": found, "description": description}


def find_vocoder(model: SpeechModel) -> Path | None:
    """The HiFi-GAN of a SpeechT5: `vocoder/` in its folder, or the folder beside it that atelier.json names."""
    named = model.card.get("vocoder", "speecht5_hifigan")
    beside = model.folder.parent / Path(str(named)).name
    return next((path for path in (model.folder / "vocoder", beside) if (path / "config.json").is_file()), None)


DESCRIPTIONS: dict[str, Callable[[SpeechModel], dict[str, Any]]] = {
    "eSpeak NG": _espeak,
    "SpeechT5ForTextToSpeech": _speecht5,
    "VitsModel": _vits,
    "BarkModel": _bark,
}
