"""Tiny true networks that hear: built from their configurations, saved in the layout of real ones."""

from __future__ import annotations

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

RATE = 16_000
WINDOW = 2  # seconds that the tiny Whisper hears at once
LANGUAGES = ("en", "de", "fr")
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
    *(f"<|{n * 0.02:.2f}|>" for n in range(WINDOW * 50 + 1)),
]


def save_whisper(folder: Path, *, english_only: bool = False) -> Path:
    """A Whisper of some thousand parameters with the alphabet of bytes, two seconds to a window."""
    torch.manual_seed(7)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: n for n, letter in enumerate(alphabet)}
    signs = [sign for sign in SIGNS if not (english_only and sign.strip("<|>") in LANGUAGES)]
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": signs[: signs.index("<|notimestamps|>") + 1]})
    tokenizer.add_tokens([sign for sign in signs if sign.endswith(tuple("0123456789|>")) and "." in sign])
    known = tokenizer.convert_tokens_to_ids
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=WINDOW)
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
        pad_token_id=known("<|endoftext|>"),
        bos_token_id=known("<|endoftext|>"),
        eos_token_id=known("<|endoftext|>"),
        decoder_start_token_id=known("<|startoftranscript|>"),
    )
    network = WhisperForConditionalGeneration(config)
    multilingual = {
        "lang_to_id": {f"<|{code}|>": known(f"<|{code}|>") for code in LANGUAGES},
        "task_to_id": {task: known(f"<|{task}|>") for task in ("transcribe", "translate")},
    }
    network.generation_config = GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        no_timestamps_token_id=known("<|notimestamps|>"),
        is_multilingual=not english_only,
        alignment_heads=[[0, 0], [1, 1]],
        **({} if english_only else multilingual),
    )
    network.save_pretrained(folder)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def noise(seconds: float, seed: int = 1) -> NDArray[np.float32]:
    """Something to hear."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)
