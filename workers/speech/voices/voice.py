"""The seam between the speech family and an engine that speaks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sentence is to be said; `voice` and `language` are ones that the model has, or None for its own.

    `speaker` is an x-vector [512] in the place of a voice.
    """

    voice: str | None = None
    language: str | None = None
    emotion: str | None = None
    speed: float = 1.0
    speaker: Samples | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """Mono `samples` [N], and what of the asked speed the engine did itself (1: nothing)."""

    samples: Samples
    speed: float = 1.0


class Voice(ABC):
    """An engine with its weights loaded. `voice` and `language` are its own, `engine` is what actually speaks.

    `longest` is how many characters it says well in one piece, `pause` the silence to put between two pieces (s).
    """

    rate: int
    voice: str
    language: str | None
    engine: str
    longest: int
    pause: float

    def settle(self, manner: Manner) -> Manner:
        """The same with the voice and the language that will be heard; raises InputRejected."""
        return replace(manner, voice=manner.voice or self.voice, language=manner.language or self.language)

    @abstractmethod
    def begin(self, seed: int) -> None:
        """A sentence begins: what is random in it follows from the seed alone."""

    @abstractmethod
    def say(self, text: str, manner: Manner) -> Spoken:
        """Say one sentence in a settled manner; no samples where there is nothing to say. Raises InputRejected."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back."""
