"""Whisper's tokens of one window, split where its timestamp tokens say that a segment ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `first` to `last` (excluded) are one segment; `start` and `end` in timestamp steps of the window."""

    start: int
    end: int
    first: int
    last: int


def split(tokens: Sequence[int], first_stamp: int, length: int) -> tuple[list[Span], int]:
    """The segments of a window of `length` steps, and how many steps of it are heard for good.

    A segment is closed by two timestamps in a row. What follows the last such pair was cut by the window's end, and is
    heard again by the window that begins there; without a pair the whole window is one segment.
    """
    stamped = [token >= first_stamp for token in tokens]
    pairs = [place for place in range(1, len(tokens)) if stamped[place - 1] and stamped[place]]
    if not pairs:
        stamps = [token - first_stamp for token in tokens if token >= first_stamp]
        start, end = (stamps[0], stamps[-1]) if len(stamps) > 1 else (0, stamps[0] if stamps else length)
        return [Span(min(start, length), min(end or length, length), 0, len(tokens))], length
    ends_alone = stamped[-2:] == [False, True]  # no speech after the last timestamp
    spans, first = [], 0
    for last in [*pairs, len(tokens)] if ends_alone else pairs:
        start, end = tokens[first] - first_stamp, tokens[last - 1] - first_stamp
        spans.append(Span(min(start, length), min(end, length), first, last))
        first = last
    heard = spans[-1].end
    return spans, length if ends_alone or not 0 < heard < length else heard
