"""Networks that spell (CTC), built so that what they spell is known, and networks that write without times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
)

from tests.speech.tiny_ears import RATE, Told, asked, model_of, noise
from workers.runtime.runner import JobStopped
from workers.speech.hearing.ctc import SpellingEar
from workers.speech.hearing.heard import Heard
from workers.speech.hearing.seq2seq import WritingEar

LETTERS = ["<pad>", "|", "a", "c", "e", "r"]  # the first is the blank
PITCHES = {"a": 300.0, "c": 700.0, "e": 1300.0, "r": 2500.0, "|": 5000.0}  # hertz
LONG, SHORT = 0.16, 0.08  # seconds of a letter, and of the silence behind it


def sung(text: str, *, letter: float = LONG) -> NDArray[np.float32]:
    """A tone for each letter."""
    moments = np.arange(int(letter * RATE)) / RATE
    gap = np.zeros(int(SHORT * RATE), np.float32)
    tones = [np.concatenate([0.5 * np.sin(2 * np.pi * PITCHES[one] * moments), gap]) for one in text]
    return np.concatenate([gap, *tones]).astype(np.float32)


def save_spelling(folder: Path) -> Path:
    """A Wav2Vec2 of random features whose last layer was fitted to tell the tones apart."""
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        vocab_size=len(LETTERS),
        hidden_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(48, 48),
        conv_kernel=(400, 3),
        conv_stride=(160, 2),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        pad_token_id=0,
        architectures=["Wav2Vec2ForCTC"],
    )
    network = Wav2Vec2ForCTC(config).eval()
    _fit(network)
    network.save_pretrained(folder)
    (folder / "words.json").write_text(json.dumps({letter: n for n, letter in enumerate(LETTERS)}))
    signs = {"unk_token": "<pad>", "bos_token": None, "eos_token": None}
    Wav2Vec2CTCTokenizer(folder / "words.json", **signs).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    (folder / "atelier.json").write_text('{"languages": ["la"]}')
    return folder


def _fit(network: Wav2Vec2ForCTC) -> None:
    """Least squares from the network's own states to the letter that sounds at the moment."""
    rng = np.random.default_rng(2)
    states, wanted = [], []
    for _ in range(12):
        text = "".join(rng.choice(list(PITCHES), 20))
        samples = sung(text)
        with torch.no_grad():
            found = network.wav2vec2(torch.from_numpy(samples)[None]).last_hidden_state[0]
        middles = (np.arange(len(found)) + 0.5) * len(samples) / len(found) / RATE - SHORT
        place, within = np.divmod(middles, LONG + SHORT)
        sounding = (place >= 0) & (place < len(text)) & (within < LONG)
        letters = [LETTERS.index(text[int(p)]) if on else 0 for p, on in zip(place, sounding, strict=True)]
        states.append(found.numpy())
        wanted.append(np.eye(len(LETTERS))[letters])
    given = np.concatenate(states)
    given = np.concatenate([given, np.ones((len(given), 1))], axis=1)
    solved, *_ = np.linalg.lstsq(given, np.concatenate(wanted), rcond=None)
    with torch.no_grad():
        network.lm_head.weight.copy_(torch.from_numpy(12 * solved[:-1].T))
        network.lm_head.bias.copy_(torch.from_numpy(12 * solved[-1]))


@pytest.fixture(scope="module")
def speller(tmp_path_factory: pytest.TempPathFactory) -> SpellingEar:
    return SpellingEar(model_of(save_spelling(tmp_path_factory.mktemp("spelling"))), "cpu")


def spelled(ear: SpellingEar, samples: NDArray[np.float32], job: Told | None = None, **fields: object) -> Heard:
    return ear.hear(samples, asked(**fields), job or Told())


def test_letters_become_words_with_their_times(speller: SpellingEar) -> None:
    found = spelled(speller, sung("care|race"), word_timestamps=True)
    assert (found.text, found.language) == ("care race", "la")
    first, second = found.segments[0].words
    step = LONG + SHORT
    assert first.start == pytest.approx(SHORT, abs=0.06)
    assert first.end == pytest.approx(SHORT + 4 * step - SHORT, abs=0.06)
    assert second.start == pytest.approx(SHORT + 5 * step, abs=0.06)
    assert found.confidence is not None
    assert 0.5 < found.confidence <= 1
    assert not spelled(speller, sung("care")).segments[0].words


def test_a_doubled_letter_needs_silence_between(speller: SpellingEar) -> None:
    assert spelled(speller, sung("aa")).text == "aa"
    assert spelled(speller, sung("a", letter=2 * LONG)).text == "a"


def test_a_pause_ends_a_segment(speller: SpellingEar) -> None:
    pause = np.zeros(RATE, np.float32)
    found = spelled(speller, np.concatenate([sung("care"), pause, sung("race|")]))
    assert [segment.text for segment in found.segments] == ["care", "race"]
    assert found.segments[0].end < 1.2 < 1.9 < found.segments[1].start


def test_long_recordings_are_spelled_in_pieces_that_overlap(speller: SpellingEar) -> None:
    words = ["care", "race", "acer", "rare"] * 9
    job = Told()
    found = spelled(speller, sung("|".join(words)), job)
    assert found.text.split() == words, "nothing twice and nothing lost where pieces meet"
    assert job.steps == [(n, 3) for n in (0, 1, 2, 3)]


def test_silence_spells_nothing(speller: SpellingEar) -> None:
    assert spelled(speller, np.zeros(RATE, np.float32)).segments == ()


def save_writing(folder: Path) -> Path:
    """A Moonshine of random weights."""
    torch.manual_seed(5)
    letters = ["<pad>", "<s>", "</s>", *"abcdefgh"]
    config = MoonshineConfig(
        vocab_size=len(letters),
        hidden_size=32,
        intermediate_size=32,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        max_position_embeddings=32,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        decoder_start_token_id=1,
    )
    network = MoonshineForConditionalGeneration(config)
    network.generation_config.suppress_tokens = [0, 1, 2]
    network.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({letter: n for n, letter in enumerate(letters)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> WritingEar:
    return WritingEar(model_of(save_writing(tmp_path_factory.mktemp("writing"))), "cpu")


def test_a_network_without_times_writes_a_segment_a_window(writer: WritingEar) -> None:
    job = Told()
    samples = noise(25)
    samples[18 * RATE : 19 * RATE] = 0
    found = writer.hear(samples, asked(), job)
    assert job.steps == [(0, 2), (1, 2), (2, 2)]
    assert len(found.segments) == 2
    assert 18 <= found.segments[1].start <= 19
    assert found.text
    assert found.confidence is not None
    assert 0 < found.confidence < 1


def test_its_hypotheses_and_its_temperature_act(writer: WritingEar) -> None:
    def text(**fields: object) -> tuple[str, float | None]:
        found = writer.hear(noise(1), asked(**fields), Told())
        return found.text, found.confidence

    assert len({text(), text(beam_size=6), text(temperature=1.0)}) == 3
    assert text(temperature=1.0) == text(temperature=1.0)


def test_it_stops_while_it_writes(writer: WritingEar) -> None:
    with pytest.raises(JobStopped):
        writer.hear(noise(1), asked(), Told(patience=3))
