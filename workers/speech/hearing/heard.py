"""What an engine hears, and the seam between the engines and the rest of the family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.runtime.runner import Job
from workers.speech.transcription_schema import Transcription

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Word:
    """`start` and `end` in seconds from the recording's beginning; `confidence` 0 to 1."""

    start: float
    end: float
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch that was heard as one. `confidence` is the geometric mean of its tokens' probabilities."""

    start: float
    end: float
    text: str
    confidence: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """`language` is None where the network does not tell; its probability None where nothing was detected."""

    segments: tuple[Segment, ...]
    language: str | None = None
    language_probability: float | None = None

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)

    @property
    def confidence(self) -> float | None:
        """The segments' confidences, weighted by how long they are; None where nothing was heard."""
        if not self.segments:
            return None
        weights = [max(segment.end - segment.start, 0.01) for segment in self.segments]
        products = (weight * segment.confidence for weight, segment in zip(weights, self.segments, strict=True))
        return sum(products) / sum(weights)


class Ear(Protocol):
    """An engine: one loaded network. `rate` in Hz is what it hears at."""

    rate: int

    def hear(self, samples: Samples, request: Transcription, job: Job) -> Heard:
        """Mono `samples` [N] at `rate` → what is said in them.

        The request is one that `check_hearing` lets pass. Raises InputRejected, and what `job.progress` raises.
        """
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...


def mean_probability(logarithms: Sequence[float]) -> float:
    """The geometric mean of probabilities given as natural logarithms; 0 of none."""
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else 0.0
