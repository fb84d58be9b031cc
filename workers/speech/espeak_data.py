"""What the house voice can speak, read from eSpeak's files: the library itself is for the process that speaks."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def espeak_languages() -> list[str]:
    """The tag of every language that has its dictionary here, by name."""
    found = (_read(path) for path in (_data() / "lang").rglob("*") if path.is_file())
    return sorted({tag for tag, dictionary in found if (_data() / f"{dictionary}_dict").is_file()})


@cache
def espeak_voices() -> list[str]:
    """Every variant, which is a throat for any language."""
    return sorted(path.name for path in (_data() / "voices" / "!v").iterdir())


def _read(path: Path) -> tuple[str, str]:
    """A language's first tag, and its dictionary: what its file says, or the tag without the country."""
    lines = (line.split() for line in path.read_text(errors="replace").splitlines())
    first: dict[str, str] = {}
    for words in lines:
        if len(words) > 1:
            first.setdefault(words[0], words[1])
    tag = first.get("language", "")
    return tag, first.get("dictionary", tag.split("-")[0])


def _data() -> Path:
    import espeakng_loader  # the gateway, which reads this package's specs, has no such library

    return Path(espeakng_loader.get_data_path())
