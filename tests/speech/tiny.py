"""True speech networks with few random weights: they make noise of the right kind, never words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (
    BarkConfig,
    BarkModel,
    BertTokenizer,
    EncodecConfig,
    GenerationConfig,
    SpeechT5Config,
    SpeechT5ForTextToSpeech,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    SpeechT5Tokenizer,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
)
from transformers.models.bark.generation_configuration_bark import BarkGenerationConfig

LETTERS = "abcdefghijklmnopqrstuvwxyz'.,!? "
MELS = 80


def build_speecht5(folder: Path) -> Path:
    """SpeechT5 with its vocoder and the voices "ann" and "bob"."""
    import sentencepiece

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join([LETTERS * 3, LETTERS.upper() * 3]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "spm_char"),
        model_type="char",
        vocab_size=64,
        hard_vocab_limit=False,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    corpus.unlink()
    SpeechT5Tokenizer(str(folder / "spm_char.model")).save_pretrained(folder)
    small = {"hidden_size": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    SpeechT5ForTextToSpeech(
        SpeechT5Config(
            vocab_size=80,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            speech_decoder_prenet_units=16,
            speech_decoder_postnet_units=16,
            **small,
        )
    ).save_pretrained(folder)
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            upsample_initial_channel=16,
            upsample_rates=[8, 8],
            upsample_kernel_sizes=[16, 16],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
        )
    )
    vocoder.conv_post.weight.data *= 1000  # else 16 bits do not show it
    vocoder.save_pretrained(folder / "vocoder")
    (folder / "voices").mkdir()
    for number, name in enumerate(("ann", "bob")):
        torch.manual_seed(number)
        save_file({"speaker": torch.randn(512)}, folder / "voices" / f"{name}.safetensors")
    return folder


def build_vits(folder: Path, speakers: int = 2) -> Path:
    """VITS with two speakers, which says that it speaks English."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    (folder / "letters.json").write_text(json.dumps({letter: n for n, letter in enumerate(LETTERS)}))
    VitsTokenizer(
        str(folder / "letters.json"), language="eng", phonemize=False, is_uroman=False, pad_token=" ", unk_token="?"
    ).save_pretrained(folder)
    VitsModel(
        VitsConfig(
            vocab_size=len(LETTERS) + 1,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            ffn_dim=16,
            flow_size=16,
            spectrogram_bins=33,
            upsample_initial_channel=16,
            upsample_rates=[8, 8],
            upsample_kernel_sizes=[16, 16],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
            prior_encoder_num_flows=2,
            prior_encoder_num_wavenet_layers=1,
            posterior_encoder_num_wavenet_layers=1,
            duration_predictor_filter_channels=16,
            num_speakers=speakers,
            speaker_embedding_size=8 if speakers > 1 else 0,
        )
    ).save_pretrained(folder)
    return folder


def build_bark(folder: Path) -> Path:
    """Bark of a few million weights (its vocabularies are what they are), with a German and an English preset."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello"]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    small = {"hidden_size": 8, "num_layers": 1, "num_heads": 1}
    network = BarkModel(
        BarkConfig(
            semantic_config={"input_vocab_size": 129_600, "output_vocab_size": 10_048, **small},
            coarse_acoustics_config={"input_vocab_size": 12_096, "output_vocab_size": 12_096, **small},
            fine_acoustics_config={"input_vocab_size": 1056, "output_vocab_size": 1056, **small},
            codec_config=EncodecConfig(num_filters=4, hidden_size=8, codebook_dim=8, num_lstm_layers=1).to_dict(),
        )
    )
    network.generation_config = GenerationConfig()  # Bark's own cannot be saved
    network.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(BarkGenerationConfig().to_dict()))
    shapes = {"semantic_prompt": (8,), "coarse_prompt": (2, 8), "fine_prompt": (8, 8)}
    presets: dict[str, Any] = {"repo_or_path": "suno/bark"}
    for name in ("v2/de_speaker_0", "v2/en_speaker_0"):
        presets[name] = {part: f"speaker_embeddings/{name}_{part}.npy" for part in shapes}
        for part, file in presets[name].items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / file, np.zeros(shapes[part], np.int64))
    (folder / "speaker_embeddings_path.json").write_text(json.dumps(presets))
    return folder
