"""The parts of the house ear, each the library's own Whisper class at a size of our own, not yet trained."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

RATE = 16_000  # Hz
WINDOW = 10  # seconds heard at once; longer speech is heard window by window
TICK = 0.02  # seconds from one timestamp, and one place of the encoder, to the next
PLACES = round(WINDOW / TICK)
LONGEST = 160  # tokens of a prompt and a text together
TEXT_TOKENS = 1_500
GUIDED = 2  # heads of each decoder layer that are taught to look at the word that comes next
WIDTH, HEADS, ENCODER_LAYERS, DECODER_LAYERS = 192, 4, 4, 2

END, START, ENGLISH = "<|endoftext|>", "<|startoftranscript|>", "<|en|>"
TRANSLATE, TRANSCRIBE = "<|translate|>", "<|transcribe|>"
PREVIOUS, NO_SPEECH, NO_TIMESTAMPS = "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"
SPECIAL = (END, START, ENGLISH, TRANSLATE, TRANSCRIBE, "<|startoflm|>", PREVIOUS, NO_SPEECH, NO_TIMESTAMPS)


def make_tokenizer(texts: Iterable[str]) -> WhisperTokenizer:
    """A byte-level BPE of the texts, then Whisper's special tokens in its order, then the window's timestamps."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=TEXT_TOKENS, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator((" " + text for text in texts), trainer)
    learnt = json.loads(learner.to_str())["model"]
    tokenizer = WhisperTokenizer(vocab=learnt["vocab"], merges=[tuple(pair) for pair in learnt["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})  # the first is there already
    tokenizer.add_tokens([AddedToken(f"<|{place * TICK:.2f}|>", normalized=False) for place in range(PLACES + 1)])
    tokenizer.model_max_length = LONGEST
    return tokenizer


def make_processor(tokenizer: WhisperTokenizer) -> WhisperProcessor:
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=80, chunk_length=WINDOW), tokenizer)


def make_model(tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    ends = {"bos_token_id": ids[END], "eos_token_id": ids[END], "pad_token_id": ids[END]}
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            num_mel_bins=80,
            d_model=WIDTH,
            encoder_layers=ENCODER_LAYERS,
            decoder_layers=DECODER_LAYERS,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            max_source_positions=PLACES,
            max_target_positions=LONGEST,
            decoder_start_token_id=ids[START],
            begin_suppress_tokens=None,  # the published models' own ids by default
            **ends,
        )
    )
    # A new one: `update` would drop the names that only Whisper knows.
    model.generation_config = GenerationConfig(
        **ends,
        decoder_start_token_id=ids[START],
        max_length=LONGEST,
        is_multilingual=True,
        lang_to_id={ENGLISH: ids[ENGLISH]},
        task_to_id={"transcribe": ids[TRANSCRIBE], "translate": ids[TRANSLATE]},
        no_timestamps_token_id=ids[NO_TIMESTAMPS],
        prev_sot_token_id=ids[PREVIOUS],
        return_timestamps=False,
        alignment_heads=[[DECODER_LAYERS - 1, head] for head in range(GUIDED)],
    )
    return model
