"""Networks that spell: at each moment a letter or a blank, from which words and their times follow (CTC).

Long recordings are heard in pieces that overlap, and of each only the middle counts: at its edges a network hears
half a word. Moments are spelled with their likeliest letter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

from workers.runtime.runner import Job
from workers.speech.hearing.abilities import ear_details
from workers.speech.hearing.heard import Heard, Samples, Segment, Word, mean_probability
from workers.speech.hearing.samples import is_silent
from workers.speech.hearing.steps import Steps
from workers.speech.loading import dtype_for, load_network, load_part, loading
from workers.speech.model import SpeechModel
from workers.speech.transcription_schema import Transcription

PIECE, EDGE = 20.0, 3.0  # seconds heard at once, and of them what only helps to hear the rest
PAUSE, LONGEST = 0.7, 12.0  # seconds of silence that end a segment, and after which it ends at the next word
SPACE = "\u2581"  # what SentencePiece writes for the space before a word


@dataclass(frozen=True, slots=True)
class Letter:
    """A run of moments with one token: seconds, and the logarithm of its probability."""

    token: int
    start: float
    end: float
    logarithm: float


class SpellingEar:
    """See `workers.speech.hearing.heard.Ear`."""

    def __init__(self, model: SpeechModel, device: str) -> None:
        with loading(model.name):
            self._extract = load_part(AutoFeatureExtractor, model.folder)
            self._tokenizer = load_part(AutoTokenizer, model.folder)
            self._network = load_network(AutoModelForCTC, model.folder, device, dtype=dtype_for(device))
        self._device = device
        self._blank: int = self._network.config.pad_token_id
        self._between: str = getattr(self._tokenizer, "word_delimiter_token", None) or SPACE
        self.rate: int = self._extract.sampling_rate
        self._languages: list[str] = ear_details(model)["languages"]

    def hear(self, samples: Samples, request: Transcription, job: Job) -> Heard:
        pieces = list(_pieces(len(samples), self.rate))
        steps, letters = Steps(job, len(pieces)), []
        for done, (first, start, end, last) in enumerate(pieces):
            steps.reach(done)
            if not is_silent(samples[start:end]):
                letters += self._spelled(samples[first:last], first, start, end)
        steps.finish()
        segments = _segments(list(self._words(letters)), request.word_timestamps)
        return Heard(tuple(segments), self._languages[0] if len(self._languages) == 1 else None)

    def close(self) -> None:
        del self._network

    @torch.inference_mode()
    def _spelled(self, samples: Samples, first: int, start: int, end: int) -> list[Letter]:
        """What samples `start` to `end` of the recording spell, heard within the piece that begins at `first`."""
        given = self._extract(samples, sampling_rate=self.rate, return_tensors="pt")
        logits = self._network(**{name: self._fit(value) for name, value in given.items()}).logits[0].float()
        chances, tokens = logits.log_softmax(-1).max(-1)
        moment = len(samples) / len(tokens) / self.rate  # seconds
        offset = first / self.rate
        letters = _runs(tokens.tolist(), chances.tolist(), moment, offset, self._blank)
        return [letter for letter in letters if start <= letter.start * self.rate < end]

    def _fit(self, value: Tensor) -> Tensor:
        return value.to(self._device, self._network.dtype if value.is_floating_point() else value.dtype)

    def _words(self, letters: Sequence[Letter]) -> Iterator[Word]:
        """Letters between spaces or pauses; signs that are no letters are left out."""
        word: list[tuple[str, Letter]] = []
        signs = set(self._tokenizer.all_special_tokens) - {self._between}
        for letter in letters:
            text = self._tokenizer.convert_ids_to_tokens(letter.token)
            if text in signs:
                continue
            paused = word and letter.start - word[-1][1].end > PAUSE
            if paused or text.startswith(self._between):
                yield from _word(word)
                word, text = [], text.removeprefix(self._between)
            if text:
                word.append((text, letter))
        yield from _word(word)


def _pieces(samples: int, rate: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, start, end, last) of each piece: heard from `first` to `last`, taken from `start` to `end`."""
    edge, inner = int(EDGE * rate), int((PIECE - 2 * EDGE) * rate)
    count = max(1, math.ceil((samples - 2 * edge) / inner))
    for n in range(count):
        start = 0 if n == 0 else edge + n * inner
        end = samples if n == count - 1 else edge + (n + 1) * inner
        yield max(0, start - edge), start, end, min(samples, end + edge)


def _runs(
    tokens: Sequence[int], chances: Sequence[float], moment: float, offset: float, blank: int
) -> Iterator[Letter]:
    """Moments with the same token in a row are one letter, as sure as at its surest; blanks are none."""
    place = 0
    while place < len(tokens):
        end = place + 1
        while end < len(tokens) and tokens[end] == tokens[place]:
            end += 1
        if tokens[place] != blank:
            span = (offset + place * moment, offset + end * moment)
            yield Letter(tokens[place], *span, max(chances[place:end]))
        place = end


def _word(letters: Sequence[tuple[str, Letter]]) -> Iterator[Word]:
    if letters:
        sure = mean_probability([letter.logarithm for _, letter in letters])
        yield Word(letters[0][1].start, letters[-1][1].end, "".join(text for text, _ in letters), sure)


def _segments(words: Sequence[Word], told: bool) -> Iterator[Segment]:
    """Words with no pause between them, up to a length that can be read."""
    group: list[Word] = []
    for word in words:
        if group and (word.start - group[-1].end > PAUSE or word.end - group[0].start > LONGEST):
            yield _segment(group, told)
            group = []
        group.append(word)
    if group:
        yield _segment(group, told)


def _segment(words: Sequence[Word], told: bool) -> Segment:
    sure = mean_probability([math.log(max(word.confidence, 1e-9)) for word in words for _ in word.text])
    text = " ".join(word.text for word in words)
    return Segment(words[0].start, words[-1].end, text, sure, tuple(words) if told else ())
