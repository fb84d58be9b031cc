"""How well the house ear hears: `make house-speech-score`, a few minutes. Everything it is asked is held out.

The word error rate counts words put in, left out or changed, per hundred words said; case and punctuation do not count.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from workers.speech import espeak
from workers.speech.house import corpus
from workers.speech.house.corpus import Manner
from workers.speech.house.language import plain, sentences, vocabulary
from workers.speech.house.networks import RATE, WINDOW

HERE = Path(__file__).parent
MODEL = HERE / "weights" / "ear"
SEED = 500_000
USUAL = ("en-us", "en-gb")
Wave = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Said:
    """A text and how it sounds: [samples] at the ear's rate, within ±1."""

    text: str
    wave: Wave


def usual(rng: random.Random) -> Manner:
    """As the house voice speaks when nothing is asked of it."""
    return Manner(rng.choice(USUAL), 175, 50, 50)


def unheard_throat(rng: random.Random) -> Manner:
    return Manner(rng.choice(USUAL) + rng.choice(corpus.HELD_OUT_VARIANTS), rng.randint(150, 195), 50, 50)


def unheard_accent(rng: random.Random) -> Manner:
    return Manner(rng.choice(corpus.HELD_OUT_ACCENTS), rng.randint(150, 195), rng.randint(35, 65), 50)


def at_speed(words_per_minute: int) -> Callable[[random.Random], Manner]:
    return lambda rng: Manner(rng.choice(USUAL), words_per_minute, 50, 50)


MANNERS: dict[str, Callable[[random.Random], Manner]] = {
    "held-out sentences": corpus.draw_manner,
    "held-out sentences, usual voices": usual,
    "held-out voices": unheard_throat,
    "held-out accent": unheard_accent,
    "slow, 100 words a minute": at_speed(100),
    "fast, 260 words a minute": at_speed(260),
    "noise at 20 dB": corpus.draw_manner,
    "noise at 10 dB": corpus.draw_manner,
    "words in no order": usual,
}
NOISE = {"noise at 20 dB": 20.0, "noise at 10 dB": 10.0}


def exercise(kind: str, count: int, seed: int = SEED) -> list[Said]:
    """Held-out sentences of one kind, no two alike, the same for the same seed."""
    rng, noise = random.Random(f"{seed} {kind}"), np.random.default_rng(seed)
    espeak.begin_anew(seed)
    said = []
    texts = sentences(rng, 4 * count, held_out=True, loose=float(kind == "words in no order"))
    for text in list(dict.fromkeys(texts))[:count]:
        wave = corpus.say(text, MANNERS[kind](rng)).astype(np.float32) / np.float32(32768)
        if kind in NOISE:
            level = np.sqrt(np.mean(np.square(wave))) * 10 ** (-NOISE[kind] / 20)
            wave += noise.standard_normal(len(wave)).astype(np.float32) * np.float32(level)
        said.append(Said(text, wave))
    return said


def load(folder: Path = MODEL) -> tuple[WhisperProcessor, WhisperForConditionalGeneration]:
    ear = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return WhisperProcessor.from_pretrained(folder, local_files_only=True), ear.eval()


@torch.inference_mode()
def hear(
    processor: WhisperProcessor, ear: WhisperForConditionalGeneration, waves: Sequence[Wave], batch: int = 16
) -> list[str]:
    """The texts of waves that are no longer than a window."""
    texts: list[str] = []
    for first in range(0, len(waves), batch):
        some = list(waves[first : first + batch])
        made = processor(some, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
        found = ear.generate(**made, language="en", task="transcribe")
        texts += processor.batch_decode(found, skip_special_tokens=True)
    return texts


@torch.inference_mode()
def hear_long(processor: WhisperProcessor, ear: WhisperForConditionalGeneration, wave: Wave) -> str:
    """The text of a wave of any length, window by window: the next begins where the last whole sentence ended."""
    made = processor(
        wave, sampling_rate=RATE, return_tensors="pt", truncation=False, padding="longest", return_attention_mask=True
    )
    found = ear.generate(**made, language="en", task="transcribe", return_timestamps=True)
    (text,) = processor.batch_decode(found, skip_special_tokens=True)
    return str(text)


def word_errors(said: str, heard: str) -> int:
    """The fewest words to put in, leave out or change."""
    ours, theirs = plain(said).split(), plain(heard).split()
    row = list(range(len(theirs) + 1))
    for i, word in enumerate(ours):
        above, row = row, [i + 1]
        for j, other in enumerate(theirs):
            row.append(min(row[j] + 1, above[j + 1] + 1, above[j] + (word != other)))
    return row[-1]


def error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Per cent."""
    wrong = sum(word_errors(ours, theirs) for ours, theirs in zip(said, heard, strict=True))
    return round(100 * wrong / sum(len(plain(text).split()) for text in said), 2)


def rate(
    processor: WhisperProcessor, ear: WhisperForConditionalGeneration, kind: str, count: int, seed: int = SEED
) -> float:
    """The word error rate of one kind, in per cent."""
    said = exercise(kind, count, seed)
    return error_rate([one.text for one in said], hear(processor, ear, [one.wave for one in said]))


def long_rate(processor: WhisperProcessor, ear: WhisperForConditionalGeneration, count: int) -> float:
    """The same for recordings of about a minute, sentences and pauses, in windows."""
    rng, said, heard = random.Random(SEED), [], []
    for number in range(count):
        some = exercise("held-out sentences, usual voices", 25, SEED + number)
        pauses = [np.zeros(round(RATE * rng.uniform(0.2, 1.2)), np.float32) for _ in some]
        wave = np.concatenate([part for one, pause in zip(some, pauses, strict=True) for part in (one.wave, pause)])
        said.append(" ".join(one.text for one in some))
        heard.append(hear_long(processor, ear, wave))
    return error_rate(said, heard)


def words_in_silence(processor: WhisperProcessor, ear: WhisperForConditionalGeneration) -> int:
    """Words heard in twenty windows without any: silence and noises of several strengths."""
    noise, length = np.random.default_rng(SEED), WINDOW * RATE
    waves = [noise.standard_normal(length).astype(np.float32) * np.float32(level / 200) for level in range(20)]
    return sum(len(plain(text).split()) for text in hear(processor, ear, waves))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--count", type=int, default=200, help="sentences of each kind")
    parser.add_argument("--out", type=Path, default=HERE / "scores.json")
    args = parser.parse_args()
    processor, ear = load(args.model)
    rates = {}
    for kind in MANNERS:
        rates[kind] = rate(processor, ear, kind, args.count)
        print(f"{kind:36} {rates[kind]:6.2f} % of words wrong", flush=True)
    rates["a minute at a time"] = long_rate(processor, ear, 5)
    print(f"{'a minute at a time':36} {rates['a minute at a time']:6.2f} % of words wrong", flush=True)
    found: dict[str, Any] = {
        "sentences of each kind": args.count,
        "vocabulary": len(vocabulary()),
        "word error rate, per cent": rates,
        "words heard in 20 windows without speech": words_in_silence(processor, ear),
    }
    print("words heard in 20 windows without speech:", found["words heard in 20 windows without speech"])
    args.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
