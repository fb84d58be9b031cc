"""The ear's picture of sound, as `WhisperFeatureExtractor` makes it, but for whole batches of tensors."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from workers.speech.house.networks import RATE

BANDS, SPAN, HOP = 80, 400, 160  # samples of RATE


def log_mel(waves: Tensor, gains: Tensor | None = None) -> Tensor:
    """[B, samples] within ±1 → [B, 80, samples / 160]; `gains` [B, 80] are added to the bands in powers of ten."""
    spectrum = torch.stft(waves, SPAN, HOP, window=torch.hann_window(SPAN), return_complex=True)
    power = spectrum[..., :-1].abs().square()
    bands = (_filters().T @ power).clamp(min=1e-10).log10()
    if gains is not None:
        bands = bands + gains.unsqueeze(-1)
    loudest = bands.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(bands, loudest - 8.0) + 4.0) / 4.0


@cache
def _filters() -> Tensor:
    """[SPAN / 2 + 1, 80], mel bands on Slaney's scale."""
    bank = mel_filter_bank(
        num_frequency_bins=1 + SPAN // 2,
        num_mel_filters=BANDS,
        min_frequency=0.0,
        max_frequency=RATE / 2,
        sampling_rate=RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank).float()
