"""What the house voice can speak, read from eSpeak's files: the library itself is for the process that speaks."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def espeak_languages() -> list[str]:
    """The tag of every language, by name."""
    files = (path for path in (_data() / "lang").rglob("*") if path.is_file())
    return sorted({tag for path in files if (tag := _first_language(path))})


@cache
def espeak_voices() -> list[str]:
    """Every variant, which is a throat for any language."""
    return sorted(path.name for path in (_data() / "voices" / "!v").iterdir())


def _first_language(path: Path) -> str | None:
    for line in path.read_text(errors="replace").splitlines():
        if (words := line.split())[:1] == ["language"]:
            return words[1]
    return None


def _data() -> Path:
    import espeakng_loader  # the gateway, which reads this package's specs, has no such library

    return Path(espeakng_loader.get_data_path())
