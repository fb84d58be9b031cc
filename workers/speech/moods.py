"""Emotions of the house voice, as settings of eSpeak."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mood:
    """eSpeak's pitch and melody (0 to 99, 50 is plain); factors of tempo and volume."""

    pitch: int = 50
    pitch_range: int = 50
    tempo: float = 1.0
    volume: float = 1.0


# The directions are those that measurements of emotional speech agree on (Scherer 2003, table 2).
MOODS = {
    "neutral": Mood(),
    "happy": Mood(pitch=62, pitch_range=80, tempo=1.08, volume=1.1),
    "sad": Mood(pitch=42, pitch_range=20, tempo=0.82, volume=0.75),
    "angry": Mood(pitch=56, pitch_range=90, tempo=1.15, volume=1.3),
    "fearful": Mood(pitch=70, pitch_range=60, tempo=1.2, volume=0.9),
    "calm": Mood(pitch=46, pitch_range=35, tempo=0.9, volume=0.9),
}
