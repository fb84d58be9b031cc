"""Transcripts as subtitles, to the letter."""

from __future__ import annotations

from workers.speech.hearing.heard import Segment
from workers.speech.hearing.subtitles import srt, vtt

SAID = [
    Segment(0.0, 1.5, "Good morning.", 0.9),
    Segment(1.5, 1.5, "<i>1 & 2</i> --> 3", 0.9),
    Segment(2.0, 3.0, "  ", 0.1),
    Segment(59.9996, 61.25, "two\n\nlines", 0.9),
    Segment(3599.5, 360_000.001, "é", 0.9),
]
SRT = """\
1
00:00:00,000 --> 00:00:01,500
Good morning.

2
00:00:01,500 --> 00:00:01,501
<i>1 & 2</i> --> 3

3
00:01:00,000 --> 00:01:01,250
two lines

4
00:59:59,500 --> 100:00:00,001
é
"""
VTT = """\
WEBVTT

00:00:00.000 --> 00:00:01.500
Good morning.

00:00:01.500 --> 00:00:01.501
&lt;i&gt;1 &amp; 2&lt;/i&gt; --&gt; 3

00:01:00.000 --> 00:01:01.250
two lines

00:59:59.500 --> 100:00:00.001
é
"""


def test_subrip() -> None:
    assert srt(SAID) == SRT
    assert srt([]) == ""


def test_webvtt() -> None:
    assert vtt(SAID) == VTT
    assert vtt([]) == "WEBVTT\n"
