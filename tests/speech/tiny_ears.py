"""Tiny true networks that hear: built from their configurations, saved in the layout of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from workers.runtime.runner import JobStopped
from workers.speech.catalog import read_model
from workers.speech.model import SpeechModel
from workers.speech.transcription_schema import Transcription

RATE = 16_000
WINDOW = 2  # seconds that the tiny Whisper hears at once
LANGUAGES = ("en", "de", "fr")
STAMPS = [f"<|{n * 0.02:.2f}|>" for n in range(WINDOW * 50 + 1)]
SIGNS = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
SPACE = "Ġ"  # in the alphabet of bytes


def save_whisper(folder: Path, logits: Mapping[str, float] | None = None, *, english_only: bool = False) -> Path:
    """A Whisper of some thousand parameters that writes single bytes, with two seconds to a window.

    With `logits` it says the same of every token wherever it stands: these values, and -30 of those left out.
    """
    torch.manual_seed(7)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = WhisperTokenizer(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": SIGNS})
    tokenizer.add_tokens(STAMPS)
    known = tokenizer.convert_tokens_to_ids
    end = known("<|endoftext|>")
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=16,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=WINDOW * 50,
        max_target_positions=48,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=known("<|startoftranscript|>"),
    )
    network = WhisperForConditionalGeneration(config)
    if logits is not None:
        _say_always(network, {known(token): value for token, value in logits.items()})
    multilingual = {
        "lang_to_id": {f"<|{code}|>": known(f"<|{code}|>") for code in LANGUAGES},
        "task_to_id": {task: known(f"<|{task}|>") for task in ("transcribe", "translate")},
    }
    network.generation_config = GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        no_timestamps_token_id=known("<|notimestamps|>"),
        is_multilingual=not english_only,
        alignment_heads=[[0, 0], [1, 1]],
        **({} if english_only else multilingual),
    )
    network.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=16, chunk_length=WINDOW), tokenizer).save_pretrained(folder)
    return folder


def _say_always(network: WhisperForConditionalGeneration, logits: Mapping[int, float]) -> None:
    """The decoder's last state becomes the first unit vector, so that a token's logit is its row's first number."""
    decoder = network.model.decoder
    with torch.no_grad():
        decoder.layer_norm.weight.zero_()
        decoder.layer_norm.bias.zero_()
        decoder.layer_norm.bias[0] = 1
        decoder.embed_tokens.weight[:, 0] = -30
        for token, value in logits.items():
            decoder.embed_tokens.weight[token, 0] = value


def model_of(folder: Path) -> SpeechModel:
    found = read_model("tiny", folder)
    assert found
    return found


def noise(seconds: float, seed: int = 1) -> NDArray[np.float32]:
    """Something to hear."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


def asked(**fields: object) -> Transcription:
    """A request that looks for one hypothesis and is content with it, unless it says otherwise."""
    plain = {"inputs": {"name": "inputs"}, "model": "tiny", "beam_size": 1, "logprob_threshold": -20.0}
    return Transcription.model_validate(plain | fields)


class Told:
    """A job that remembers what it was told; asked whether it must stop, it says so after `patience` times."""

    id, operation, wants_preview = "told", "speech.transcribe", False

    def __init__(self, inputs: Mapping[str, Path] | None = None, patience: int = 1_000_000) -> None:
        self.inputs, self.files, self.steps, self._patience = inputs or {}, {}, [], patience

    @property
    def cancelled(self) -> bool:
        self._patience -= 1
        return self._patience < 0

    def progress(self, step: int, total: int, preview: object = None) -> None:
        if self._patience < 0:
            raise JobStopped("cancelled")
        self.steps.append((step, total))

    def save(self, name: str, content: bytes, media_type: str) -> None:
        self.files[name] = (content.decode(), media_type)
