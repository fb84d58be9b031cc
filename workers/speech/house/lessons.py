"""What the ear hears in training and what it should answer: spoken windows, spoilt in many ways, and their tokens.

Asked for timestamps, it writes one sentence and twice when that ended: to every reader of Whisper the next window then
begins there. So long recordings are heard sentence by sentence, and none is cut. Without timestamps it writes them all.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from torch import Tensor
from transformers import WhisperTokenizer

from workers.speech.house import networks
from workers.speech.house.corpus import Corpus
from workers.speech.house.features import BANDS, HOP
from workers.speech.house.networks import LONGEST, PLACES, RATE, TICK, WINDOW

IGNORED = -100  # a label that costs nothing
SAMPLES = WINDOW * RATE
SORTED = 16  # batches of equal length are cut from so many batches' worth of windows
SHARES = {"silence": 0.1, "cut": 0.5, "timestamps": 0.6, "prompt": 0.15, "translate": 0.1}
SPOILT = {"noise": 0.6, "room": 0.15, "tone": 0.5, "telephone": 0.05, "stretched": 0.4, "masked": 0.5}
FADED = 0.03  # share of the decoder's tokens that are replaced by others, so that it listens


@dataclass(slots=True)
class Spoken:
    """One window: its samples within ±1, the sentences that are whole in it, and whether its end cuts another."""

    wave: NDArray[np.float32]
    sentences: list[tuple[float, float, str, str]]  # start and end in seconds, text, sounds
    cut: bool = False


@dataclass(slots=True)
class Lessons:
    """A batch: waves [B, N], band gains [B, 80], decoder tokens and labels [B, T], about when each label is heard
    ([B, T] seconds, or not a number), the sounds of each window if it is known by them; the
    encoder's place where each one begins [B]; and whether parts of what is heard are to be lost."""

    waves: Tensor
    gains: Tensor
    tokens: Tensor
    labels: Tensor
    times: Tensor
    sounds: list[str]
    offsets: Tensor
    masked: bool


@dataclass(slots=True)
class Answer:
    """The decoder's tokens, for each the token that should follow, and about when that one is heard."""

    tokens: list[int]
    labels: list[int]
    times: list[float]


class Teacher:
    """Makes lessons from a corpus; `share` of `shares` teachers with one seed give parts of the same batches."""

    def __init__(self, corpus: Corpus, tokenizer: WhisperTokenizer, batch: int, seed: int, share: int, shares: int):
        self.corpus, self.tokenizer, self.batch, self.share, self.shares = corpus, tokenizer, batch, share, shares
        self.rng = random.Random(f"{seed} order")  # the same for all teachers
        self.own = random.Random(f"{seed} {share}")
        self.noise = np.random.default_rng([seed, share])
        self.ids: dict[str, int] = {token: tokenizer.convert_tokens_to_ids(token) for token in networks.SPECIAL}
        self.hardness = 1.0  # how much of SPOILT is done
        self.first_tick: int = tokenizer.convert_tokens_to_ids("<|0.00|>")

    def sentences(self, counts: Sequence[int]) -> Iterator[Lessons]:
        """Windows of a few sentences, one of `counts`, no longer than they must be, as if silence stood around them."""
        while True:
            count = self.batch * SORTED
            picks = [[self._pick() for _ in range(self.rng.choice(counts))] for _ in range(count)]
            picks.sort(key=lambda some: sum(self.corpus.length(which) for which in some))
            groups = [picks[i : i + self.batch] for i in range(0, count, self.batch)]
            self.rng.shuffle(groups)
            for group in groups:
                yield self._lessons([self._short(some) for some in group[self.share :: self.shares]], shifted=True)

    def windows(self) -> Iterator[Lessons]:
        """Whole windows, as the ear meets them in use."""
        while True:
            yield self._lessons([self._whole() for _ in range(self.batch // self.shares)])

    def _chance(self, harm: str) -> bool:
        return self.own.random() < SPOILT[harm] * self.hardness

    def _pick(self) -> int:
        return self.rng.randrange(len(self.corpus))

    def _voice(self, which: int) -> NDArray[np.float32]:
        wave = self.corpus.wave(which)
        if self._chance("stretched"):
            length = round(len(wave) * self.own.uniform(0.9, 1.12))
            wave = np.interp(np.linspace(0, len(wave) - 1, length), np.arange(len(wave)), wave).astype(np.float32)
        return wave * np.float32(10 ** self.own.uniform(-0.8, 0.1))

    def _pause(self, mean: float) -> int:
        return round(RATE * min(self.own.expovariate(1 / mean), 4 * mean))

    def _short(self, picks: list[int]) -> Spoken:
        parts, sentences = [np.zeros(self._pause(0.05), np.float32)], []
        for which in picks:
            at, wave = sum(map(len, parts)), self._voice(which)
            end = at + len(wave)
            if end > SAMPLES:
                break
            parts += [wave, np.zeros(self._pause(self.own.choice([0.1, 0.3])), np.float32)]
            sentences.append((at / RATE, end / RATE, self.corpus.texts[which], self.corpus.sounds[which]))
        return Spoken(np.concatenate(parts)[:SAMPLES], sentences)

    def _whole(self) -> Spoken:
        spoken = Spoken(np.zeros(SAMPLES, np.float32), [])
        if self.own.random() < SHARES["silence"]:
            return spoken
        at, wanted = self._pause(self.own.choice([0.2, 0.4, 1.5])), self.own.choice([1, 2, 3, 9, 9, 9])
        for _ in range(wanted):
            which = self.own.randrange(len(self.corpus))
            wave = self._voice(which)
            end = at + len(wave)
            if end > SAMPLES:
                if spoken.sentences and at < SAMPLES and self.own.random() < SHARES["cut"]:
                    spoken.wave[at:] = wave[: SAMPLES - at]
                    spoken.cut = True
                break
            spoken.wave[at:end] = wave
            spoken.sentences.append((at / RATE, end / RATE, self.corpus.texts[which], self.corpus.sounds[which]))
            at = end + self._pause(0.5) + RATE // 10
        return spoken

    def _lessons(self, heard: list[Spoken], shifted: bool = False) -> Lessons:
        longest = -(-max(len(spoken.wave) for spoken in heard) // (2 * HOP)) * 2 * HOP
        waves = np.zeros((len(heard), longest), np.float32)
        for wave, spoken in zip(waves, heard, strict=True):
            wave[: len(spoken.wave)] = self._spoil(spoken.wave)
        free = PLACES - longest // (2 * HOP)
        offsets = [self.own.randint(0, free) if shifted else 0 for _ in heard]
        answers = [self._answer(spoken, offset * TICK) for spoken, offset in zip(heard, offsets, strict=True)]
        shape = (len(heard), max(len(answer.tokens) for answer in answers))
        tokens, labels = torch.full(shape, self.ids[networks.END]), torch.full(shape, IGNORED)
        times = torch.full(shape, torch.nan)
        for row, answer in enumerate(answers):
            for held, part in ((tokens, answer.tokens), (labels, answer.labels), (times, answer.times)):
                held[row, : len(part)] = torch.tensor(part)
        gains = torch.from_numpy(np.stack([self._tone() for _ in heard])).float()
        sounds = ["" if spoken.cut else "".join(s[3] for s in spoken.sentences) for spoken in heard]
        heard_from = torch.tensor(offsets)
        return Lessons(
            torch.from_numpy(waves), gains, tokens, labels, times, sounds, heard_from, self._chance("masked")
        )

    def _spoil(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        """A room's echo, and noise of some colour 5 to 35 dB below the voice."""
        if self._chance("room"):
            size = round(RATE * self.own.uniform(0.05, 0.3))
            echo = self.noise.standard_normal(size) * np.exp(-np.linspace(0, 7, size)) * self.own.uniform(0.02, 0.15)
            echo[0] = 1.0
            wave = fftconvolve(wave, echo)[: len(wave)].astype(np.float32)
        if self._chance("noise"):
            level = np.sqrt(np.mean(np.square(wave))) or 10 ** self.own.uniform(-3.0, -0.5)
            wave = wave + self._coloured(len(wave)) * np.float32(level * 10 ** -self.own.uniform(0.25, 1.75))
        return wave

    def _coloured(self, length: int) -> NDArray[np.float32]:
        """Noise of unit power whose spectrum falls as some power of the frequency."""
        spectrum = np.fft.rfft(self.noise.standard_normal(length))
        spectrum *= np.maximum(np.arange(len(spectrum)), 1 + length / 400) ** -self.own.uniform(0.0, 1.2)
        noise = np.fft.irfft(spectrum, length)
        return (noise / noise.std()).astype(np.float32)

    def _tone(self) -> NDArray[np.float64]:
        """How a microphone colours the bands, in powers of ten."""
        gains = np.zeros(BANDS)
        if self._chance("tone"):
            gains += np.interp(np.linspace(0, 5, BANDS), np.arange(6), self.noise.normal(0, 0.4, 6))
        if self._chance("telephone"):
            gains[:8] -= 3
            gains[-20:] -= 3
        return gains

    def _answer(self, spoken: Spoken, offset: float = 0.0) -> Answer:
        ids, ticks = self.ids, spoken.cut or self.own.random() < SHARES["timestamps"]
        task = networks.TRANSLATE if self.own.random() < SHARES["translate"] else networks.TRANSCRIBE
        text: list[tuple[int, float]] = []  # tokens, and about when each is heard
        for start, end, sentence, _ in spoken.sentences[: 1 if ticks else None]:
            first, last = (self._tick(start + offset), start), (self._tick(end + offset), end)
            words = self._timed(sentence, start, end)
            text += [first, *words, last, last] if ticks else words
        if ticks and not spoken.sentences:
            text = [(self.first_tick, 0.0)]
        before = self._prompt() if self.own.random() < SHARES["prompt"] else []
        head = [ids[networks.START], ids[networks.ENGLISH], ids[task]]
        head += [] if ticks else [ids[networks.NO_TIMESTAMPS]]
        said = ids[networks.ENGLISH if spoken.sentences else networks.NO_SPEECH]
        labels = [IGNORED] * len(before) + [said] + [IGNORED] * (len(head) - 2) + [token for token, _ in text]
        times = [math.nan] * (len(before) + len(head) - 1) + [moment for _, moment in text]
        given = [self.own.randrange(ids[networks.END]) if self._fades(token) else token for token, _ in text]
        return Answer((before + head + given)[:LONGEST], [*labels, ids[networks.END]][:LONGEST], times[:LONGEST])

    def _timed(self, sentence: str, start: float, end: float) -> list[tuple[int, float]]:
        """The sentence's tokens, each at the middle of its share of the letters."""
        found = self.tokenizer(" " + sentence, add_special_tokens=False, return_offsets_mapping=True)
        letter = (end - start) / (len(sentence) + 1)
        return [
            (token, start + letter * (first + last) / 2)
            for token, (first, last) in zip(found.input_ids, found.offset_mapping, strict=True)
        ]

    def _fades(self, token: int) -> bool:
        return token < self.ids[networks.END] and self.own.random() < FADED

    def _tick(self, seconds: float) -> int:
        return self.first_tick + min(round(seconds / TICK), PLACES)

    def _prompt(self) -> list[int]:
        said = " ".join(self.own.choice(self.corpus.texts) for _ in range(self.own.randint(1, 10)))
        return [self.ids[networks.PREVIOUS], *self.tokenizer.encode(" " + said, add_special_tokens=False)[-79:]]
