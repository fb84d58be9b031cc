"""Which of the languages that a model knows is meant: "en" finds "en-us", "zh" finds "cmn", "deu" is "de"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from langcodes import Language, LanguageTagError, closest_match, tag_is_valid

NEAR = 9  # CLDR's distance of what speakers of one understand without effort: en-GB for en-US, not nb for da


def closest(wanted: str, known: Sequence[str]) -> str | None:
    """The known tag that is the wanted one or nearest to it; None if none is near."""
    return _closest(wanted.strip().lower().replace("_", "-"), tuple(known))


@lru_cache(maxsize=200)
def _closest(wanted: str, known: tuple[str, ...]) -> str | None:
    if exact := next((tag for tag in known if tag.lower() == wanted), None):
        return exact
    try:
        found, _ = closest_match(wanted, [tag for tag in known if tag_is_valid(tag)], max_distance=NEAR)
    except LanguageTagError:
        return None
    return found if found in known else None


def tongue(tag: str) -> str:
    """The language of a tag without its country, in two letters where it has two: "en" of "eng", "zh" of "cmn"."""
    try:
        return Language.get(tag).prefer_macrolanguage().language or tag
    except LanguageTagError:
        return tag.split("-")[0].lower()
