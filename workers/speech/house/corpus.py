"""The lessons of the house ear: sentences of its language in many eSpeak voices, speeds and pitches, kept as files."""

from __future__ import annotations

import json
import multiprocessing
import random
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from workers.speech import espeak
from workers.speech.house.language import sentences
from workers.speech.house.networks import RATE

ACCENTS = {  # with their shares
    "en-us": 30,
    "en-gb": 30,
    "en-gb-x-rp": 10,
    "en-gb-scotland": 8,
    "en-gb-x-gbclan": 8,
    "en-us-nyc": 8,
    "en-gb-x-gbcwmd": 6,
}
HELD_OUT_ACCENTS = ("en-029",)
HELD_OUT_VARIANTS = ("+m4", "+f4", "+Alicia", "+Mike", "+benjamin", "+linda", "+pablo", "+steph2")
# Effects rather than throats: whispers, robots, a croak.
EFFECTS = ("+Demonic", "+UniRobot", "+anikaRobot", "+announcer", "+croak", "+fast", "+whisper", "+whisperf")
PLAIN = 0.35  # share spoken without a variant
USUAL = 0.5  # share at an everyday speed and pitch
STRESSES = "ˈˌː"
PER_PART = 1_000


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sentence is said."""

    voice: str
    words_per_minute: int
    pitch: int
    pitch_range: int


@cache
def trained_variants() -> tuple[str, ...]:
    return tuple(v.name for v in espeak.variants() if v.name not in (*HELD_OUT_VARIANTS, *EFFECTS))


def draw_manner(rng: random.Random) -> Manner:
    """A manner of the training side."""
    (accent,) = rng.choices(list(ACCENTS), list(ACCENTS.values()))
    voice = accent if rng.random() < PLAIN else accent + rng.choice(trained_variants())
    if rng.random() < USUAL:
        return Manner(voice, rng.randint(155, 195), rng.randint(45, 55), 50)
    return Manner(voice, rng.randint(100, 280), rng.randint(15, 85), rng.randint(25, 75))


def say(text: str, manner: Manner) -> NDArray[np.int16]:
    """The sentence at the ear's rate, from its first sound to its last."""
    samples, rate = espeak.speak(text, **asdict(manner))
    found = resample_poly(samples.astype(np.float32), RATE, rate)
    heard = np.flatnonzero(np.abs(found) > 0.01 * np.abs(found).max(initial=1.0))
    return np.clip(found[heard[0] : heard[-1] + 1], -32768, 32767).astype(np.int16)


def sounds(text: str) -> str:
    """The sounds of the sentence, one letter each, in American English whatever the voice: what CTC is taught."""
    return "".join(letter for letter in espeak.phonemes(text) if letter.isalpha() and letter not in STRESSES)


def make(folder: Path, parts: int, processes: int, seed: int = 0) -> None:
    """Speaks so many parts of a thousand sentences; those that are there already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [(folder, seed, part) for part in range(parts) if not _paths(folder, part)[1].exists()]
    with multiprocessing.Pool(processes) as pool:
        for _ in pool.imap_unordered(_make_part, missing):
            pass


def _paths(folder: Path, part: int) -> tuple[Path, Path]:
    return folder / f"{part:04}.npy", folder / f"{part:04}.json"


def _make_part(job: tuple[Path, int, int]) -> None:
    folder, seed, part = job
    rng = random.Random(f"{seed} {part}")
    texts = sentences(rng, PER_PART, held_out=False)
    spoken = [say(text, draw_manner(rng)) for text in texts]
    samples, index = _paths(folder, part)
    np.save(samples, np.concatenate(spoken))
    ends = np.cumsum([len(s) for s in spoken]).tolist()
    held = {"texts": texts, "sounds": [sounds(text) for text in texts], "ends": ends}
    index.with_suffix(".tmp").write_text(json.dumps(held))
    index.with_suffix(".tmp").rename(index)


class Corpus:
    """All that has been spoken into a folder."""

    def __init__(self, folder: Path):
        self.texts: list[str] = []
        self.sounds: list[str] = []
        self._places: list[tuple[NDArray[np.int16], int, int]] = []
        for index in sorted(folder.glob("*.json")):
            spoken, held = np.load(index.with_suffix(".npy"), mmap_mode="r"), json.loads(index.read_text())
            self.texts += held["texts"]
            self.sounds += held["sounds"]
            self._places += [(spoken, start, end) for start, end in zip([0, *held["ends"]], held["ends"], strict=False)]

    def __len__(self) -> int:
        return len(self.texts)

    def length(self, which: int) -> int:
        _, start, end = self._places[which]
        return end - start

    def wave(self, which: int) -> NDArray[np.float32]:
        """[samples] within ±1."""
        spoken, start, end = self._places[which]
        return spoken[start:end].astype(np.float32) / np.float32(32768)
