"""A transcript as SubRip (.srt) and WebVTT (.vtt) subtitles."""

from __future__ import annotations

from collections.abc import Sequence

from workers.speech.hearing.heard import Segment

SHORTEST = 0.001  # seconds: a cue that ends when it begins is shown by no player


def srt(segments: Sequence[Segment]) -> str:
    """Cues numbered from 1. SubRip has no escapes: a text stays as it is, on one line."""
    return "\n".join(
        f"{number}\n{_span(segment, ',')}\n{_one_line(segment.text)}\n"
        for number, segment in enumerate(_spoken(segments), 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """Cues with their text escaped, so that `<` and `&` are seen and `-->` is no time."""
    cues = (f"{_span(segment, '.')}\n{_escaped(_one_line(segment.text))}\n" for segment in _spoken(segments))
    return "\n".join(["WEBVTT\n", *cues])


def _spoken(segments: Sequence[Segment]) -> list[Segment]:
    """Those with a text; an empty line would end a cue."""
    return [segment for segment in segments if segment.text.strip()]


def _span(segment: Segment, point: str) -> str:
    end = max(segment.end, segment.start + SHORTEST)
    return f"{_clock(segment.start, point)} --> {_clock(end, point)}"


def _clock(seconds: float, point: str) -> str:
    """HH:MM:SS and milliseconds behind the point; hours grow beyond 99 if they must."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{point}{milliseconds:03}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
