"""When each word was said: where Whisper's decoder looked in the sound while it read the word.

The attention of the heads that the model names for this (`alignment_heads`) is aligned with the tokens: each moment of
the sound goes to one token, in their order, so that the attention met on the way is greatest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from torch import Tensor

from workers.speech.hearing.heard import Word, mean_probability
from workers.speech.hearing.stamps import Span
from workers.speech.hearing.whisper_decoder import Decoded, Decoder, Manner

WITHOUT_SPACES = {"zh", "ja", "th", "lo", "my", "yue"}
SMOOTH = 7  # positions over which the attention is smoothed
BROKEN = "\ufffd"  # what a part of a letter decodes to


class WordTimes:
    """Finds the times of a window's words; `step` is what one of the encoder's positions is, in seconds."""

    def __init__(self, network: Any, decoder: Decoder, step: float) -> None:
        self._network, self._decoder, self._step = network, decoder, step

    @classmethod
    def of(cls, network: Any, decoder: Decoder, step: float) -> WordTimes | None:
        """None where the model does not tell which of its heads look where they read."""
        return cls(network, decoder, step) if decoder.alignment_heads and decoder.bare is not None else None

    def find(
        self,
        encoded: Tensor,
        decoded: Decoded,
        spans: Sequence[Span],
        start: float,
        length: float,
        manner: Manner,
        language: str | None,
    ) -> list[tuple[int, Word]]:
        """Each word with the place of its first token; the window begins at `start` and has `length`, in seconds."""
        heard = decoded.tokens[: spans[-1].last]  # what follows is heard again by the next window
        places = [n for n, token in enumerate(heard) if token < self._decoder.end]
        tokens = [decoded.tokens[place] for place in places]
        positions = max(1, round(length / self._step))
        if not places or len(places) >= positions:  # more tokens than moments: there is nothing to align
            return []
        begins = aligned(self._attention(encoded, tokens, manner)[:, :positions])
        words = []
        breaks = {sum(place < span.first for place in places) for span in spans}
        for first, last in self._grouped(tokens, breaks, language):
            text = self._decoder.text(tokens[first:last]).strip()
            sure = mean_probability([decoded.logarithms[place] for place in places[first:last]])
            span = (start + begins[first] * self._step, start + begins[last] * self._step)
            if text:
                words.append((places[first], Word(*span, text, sure)))
        return words

    def _attention(self, encoded: Tensor, tokens: Sequence[int], manner: Manner) -> NDArray[np.float32]:
        """How much each token and the text's end looked at each position [tokens + 1, positions]."""
        bare = self._decoder.bare
        prompt = [*manner.prompt, *([bare] if manner.stamped and bare is not None else [])]
        self._network.set_attn_implementation("eager")  # faster ones do not tell where they look
        try:
            seen = self._decoder.look(encoded, [*prompt, *tokens], output_attentions=True).cross_attentions
        finally:
            self._network.set_attn_implementation("sdpa")
        heads = torch.stack([seen[layer][0, head] for layer, head in self._decoder.alignment_heads])
        looks = heads[:, len(prompt) - 1 :].float()  # the row that reads a token is the one before it
        spread = looks.std(dim=1, keepdim=True, correction=0).clamp(min=1e-8)
        standard = ((looks - looks.mean(dim=1, keepdim=True)) / spread).cpu().numpy()
        return median_filter(standard, (1, 1, SMOOTH)).mean(axis=0)

    def _grouped(self, tokens: Sequence[int], breaks: Collection[int], language: str | None) -> list[tuple[int, int]]:
        """The first and the last (excluded) token of each word."""
        begins, first = [0], 0
        for place in range(1, len(tokens)):
            if place not in breaks and BROKEN in self._decoder.text(tokens[first:place]):
                continue  # within a letter
            first = place
            apart = language in WITHOUT_SPACES or self._decoder.text([tokens[place]]).startswith(" ")
            if apart or place in breaks:
                begins.append(place)
        return list(zip(begins, [*begins[1:], len(tokens)], strict=True))


def aligned(scores: NDArray[np.float32]) -> list[int]:
    """The position [0, M) at which each row of `scores` [N, M] begins, N ≤ M: the path of the greatest sum.

    Each position goes to one row, in order, and each row has at least one.
    """
    rows, positions = scores.shape
    total = np.full(rows, -np.inf)
    total[0] = scores[0, 0]
    came = np.zeros((rows, positions), bool)  # whether the row's path came from the row before
    for position in range(1, positions):
        before = np.concatenate([[-np.inf], total[:-1]])
        came[:, position] = before > total
        total = np.maximum(total, before) + scores[:, position]
    begins, row = [0] * rows, rows - 1
    for position in range(positions - 1, 0, -1):
        if came[row, position]:
            begins[row] = position
            row -= 1
    return begins
