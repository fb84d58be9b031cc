"""Whisper over a whole recording, as its paper does it: each window begins where the last one's segments ended.

A window is as long as the network's own positions reach, which is 30 s for the published models and less for the
house's. Without timestamps, windows end where nobody speaks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from workers.runtime.runner import Job
from workers.speech.hearing.abilities import ear_details
from workers.speech.hearing.heard import Heard, Samples, Segment, Word, mean_probability
from workers.speech.hearing.samples import is_silent, windows
from workers.speech.hearing.stamps import Span, split
from workers.speech.hearing.steps import Steps
from workers.speech.hearing.whisper_decoder import Decoded, Decoder, Manner
from workers.speech.hearing.word_times import WordTimes
from workers.speech.loading import dtype_for, load_network, load_part, loading
from workers.speech.model import SpeechModel
from workers.speech.transcription_schema import AUTO, Transcription


@dataclass(frozen=True, slots=True)
class Window:
    """`features` [1, bins, frames] of a window that begins at `start` and has `length` of the recording, seconds."""

    features: Tensor
    start: float
    length: float


class WhisperEar:
    """See `workers.speech.hearing.heard.Ear`."""

    def __init__(self, model: SpeechModel, device: str) -> None:
        with loading(model.name):
            processor = load_part(WhisperProcessor, model.folder)
            self._network = load_network(WhisperForConditionalGeneration, model.folder, device, dtype=dtype_for(device))
        self._encoder, config = self._network.model.encoder, self._network.config
        self._extract, self._device = processor.feature_extractor, device
        self._decoder = Decoder(self._network, processor.tokenizer)
        self.rate: int = self._extract.sampling_rate
        self._languages: list[str] = ear_details(model)["languages"]
        self._hop: int = self._extract.hop_length
        self._frames: int = config.max_source_positions * self._encoder.conv1.stride[0] * self._encoder.conv2.stride[0]
        self._seconds = self._frames * self._hop / self.rate
        self._stamps: int = config.max_source_positions  # timestamp tokens of a window
        self._stamp = self._seconds / self._stamps  # what one of them is, in seconds
        self._word_times = WordTimes.of(self._network, self._decoder, self._stamp)

    def hear(self, samples: Samples, request: Transcription, job: Job) -> Heard:
        torch.manual_seed(0)  # what is drawn at a temperature is drawn alike at every attempt
        steps = Steps(job, math.ceil(len(samples) / self.rate / self._seconds))
        with torch.inference_mode():
            language, chance = self._language(samples, request)
            stamped = request.enable_timestamps and self._decoder.knows_stamps
            prompt = self._decoder.prompt(language, request, stamped)
            manner = Manner(request, prompt, stamped, steps.criteria)
            segments = (self._by_stamps if stamped else self._by_pauses)(samples, manner, steps, language)
        steps.finish()
        return Heard(tuple(segments), language, chance)

    def close(self) -> None:
        del self._network, self._encoder, self._decoder, self._word_times

    def _language(self, samples: Samples, request: Transcription) -> tuple[str | None, float | None]:
        """The asked one, or what the first window with a sound in it is most likely in."""
        if request.language != AUTO:
            return request.language, None
        if not self._decoder.languages:  # the models for English alone have no signs for languages
            return self._languages[0], None
        first = next(windows(samples, self.rate, self._seconds), None)
        if first is None:
            return None, None
        features = self._features(first.samples)[:, :, : self._frames]
        return self._decoder.detect(self._encoder(features).last_hidden_state)

    def _features(self, samples: Samples) -> Tensor:
        """Log-mel features [1, bins, frames] of the samples and of a window of silence behind them."""
        padded = np.concatenate([samples, np.zeros(self._frames * self._hop, np.float32)])
        made = self._extract(padded, sampling_rate=self.rate, return_tensors="pt", truncation=False, padding=False)
        return made.input_features.to(self._device, self._network.dtype)

    def _by_stamps(self, samples: Samples, manner: Manner, steps: Steps, language: str | None) -> list[Segment]:
        """Segments from windows that overlap no segment."""
        segments: list[Segment] = []
        features, place, end = self._features(samples), 0, math.ceil(len(samples) / self._hop)  # in frames
        while place < end:
            steps.reach(place // self._frames)
            length = min(self._frames, end - place)
            if is_silent(samples[place * self._hop : (place + length) * self._hop]):
                place += length
                continue
            cut = features[:, :, place : place + self._frames]
            window = Window(cut, place * self._hop / self.rate, length * self._hop / self.rate)
            encoded = self._encoder(cut).last_hidden_state
            decoded, heard = self._decoder.best(encoded, manner), self._stamps
            if decoded:
                spans, heard = split(decoded.tokens, self._decoder.first_stamp, self._stamps)
                segments += self._segments(encoded, decoded, spans, window, manner, language)
            place += min(heard * self._frames // self._stamps, length)
        return segments

    def _by_pauses(self, samples: Samples, manner: Manner, steps: Steps, language: str | None) -> list[Segment]:
        """One segment a window."""
        segments: list[Segment] = []
        for piece in windows(samples, self.rate, self._seconds):
            start = piece.start / self.rate
            steps.reach(int(start / self._seconds))
            cut = self._features(piece.samples)[:, :, : self._frames]
            encoded = self._encoder(cut).last_hidden_state
            if decoded := self._decoder.best(encoded, manner):
                window = Window(cut, start, len(piece.samples) / self.rate)
                whole = [Span(0, self._stamps, 0, len(decoded.tokens))]
                segments += self._segments(encoded, decoded, whole, window, manner, language)
        return segments

    def _segments(
        self,
        encoded: Tensor,
        decoded: Decoded,
        spans: list[Span],
        window: Window,
        manner: Manner,
        language: str | None,
    ) -> list[Segment]:
        """Those of a window's spans that have a text."""
        words: list[tuple[int, Word]] = []
        if manner.request.word_timestamps and self._word_times:
            words = self._word_times.find(encoded, decoded, spans, window.start, window.length, manner, language)
        segments = []
        for span in spans:
            tokens = decoded.tokens[span.first : span.last]
            if text := self._decoder.text(tokens).strip():
                pairs = zip(tokens, decoded.logarithms[span.first : span.last], strict=True)
                sure = mean_probability([value for token, value in pairs if token < self._decoder.end])
                own = tuple(word for place, word in words if span.first <= place < span.last)
                start, end = (window.start + min(n * self._stamp, window.length) for n in (span.start, span.end))
                segments.append(Segment(start, end, text, sure, own))
        return segments
