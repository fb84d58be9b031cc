"""A text, cut where people breathe: at sentences, and inside those that are too long at commas, then between words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sentencex import segment

from workers.speech.languages import tongue

BREATHS = (re.compile(r"(?<=[,;:–—，、；：])\s*"), re.compile(r"\s+"))


def sentences(text: str, language: str, longest: int) -> list[str]:
    """The pieces to say one by one, none of them empty or longer than `longest` characters."""
    found = (sentence.strip() for sentence in segment(tongue(language), text))
    return [piece for sentence in found if sentence for piece in _pieces(sentence, longest)]


def _pieces(sentence: str, longest: int, breaths: tuple[re.Pattern[str], ...] = BREATHS) -> Iterator[str]:
    """Parts of the sentence, each as long as fits."""
    if len(sentence) <= longest:
        yield sentence
    elif not breaths:
        yield from (sentence[start : start + longest] for start in range(0, len(sentence), longest))
    else:
        held = ""
        for part in breaths[0].split(sentence):
            joined = f"{held} {part}".strip()
            if len(joined) <= longest:
                held = joined
                continue
            if held:
                yield from _pieces(held, longest, breaths[1:])
            held = part
        yield from _pieces(held, longest, breaths[1:])
