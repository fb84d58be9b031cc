"""Whisper over whole recordings, with tiny networks in its own layout."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from tests.speech.tiny_ears import SPACE, WINDOW, Told, asked, model_of, noise, save_whisper
from workers.runtime.runner import InputRejected, JobStopped
from workers.speech.hearing import whisper_decoder
from workers.speech.hearing.heard import Heard
from workers.speech.hearing.stamps import Span, split
from workers.speech.hearing.whisper import WhisperEar
from workers.speech.hearing.word_times import aligned

SURE = {"h": 2.0, "i": 1.0, "<|en|>": 0.0, "<|de|>": 1.0, "<|fr|>": -1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def ear(folder: Path) -> WhisperEar:
    """One whose weights are random."""
    return WhisperEar(model_of(folder), "cpu")


@pytest.fixture(autouse=True)
def _contented(monkeypatch: pytest.MonkeyPatch) -> None:
    """What weights that know nothing write goes round in circles; it is not written again for that."""
    monkeypatch.setattr(whisper_decoder, "REPETITION", 1e9)


Constant = Callable[[dict[str, float]], WhisperEar]


@pytest.fixture
def constant(tmp_path: Path) -> Constant:
    """Makes ears that always think the same."""
    return lambda logits: WhisperEar(model_of(save_whisper(tmp_path, logits)), "cpu")


def heard(ear: WhisperEar, seconds: float = WINDOW, job: Told | None = None, **fields: Any) -> Heard:
    return ear.hear(noise(seconds), asked(**fields), job or Told())


@pytest.mark.parametrize(
    ("fields", "library"),
    [
        ({}, {}),
        ({"task": "translate"}, {"task": "translate"}),
        ({"beam_size": 4}, {"num_beams": 4}),
        ({"initial_prompt": "So"}, {"prompt": "So"}),
    ],
    ids=["greedy", "translate", "beams", "prompt"],
)
def test_a_window_is_heard_as_transformers_hears_it(
    ear: WhisperEar, folder: Path, fields: dict[str, Any], library: dict[str, Any]
) -> None:
    processor = WhisperProcessor.from_pretrained(folder)
    network = WhisperForConditionalGeneration.from_pretrained(folder)
    given = processor(noise(WINDOW), sampling_rate=16_000, return_tensors="pt").input_features
    if "prompt" in library:
        library = {"prompt_ids": processor.get_prompt_ids(library["prompt"], return_tensors="pt")}
    tokens = processor.tokenizer
    signs = list(range(tokens.eos_token_id + 1, len(tokens)))
    plain = {"return_timestamps": False, "max_new_tokens": 24, "suppress_tokens": signs}
    expected = tokens.decode(network.generate(given, language="de", **plain, **library)[0], skip_special_tokens=True)
    found = heard(ear, language="de", enable_timestamps=False, suppress_blank=False, **fields)
    assert found.text == expected.strip()
    assert found.text


def test_what_stands_before_the_text_is_what_was_asked_for(ear: WhisperEar, folder: Path) -> None:
    tokens = WhisperProcessor.from_pretrained(folder).tokenizer

    def before(stamped: bool, **fields: Any) -> str:
        return tokens.decode(ear._decoder.prompt("fr", asked(**fields), stamped))

    assert before(True) == "<|startoftranscript|><|fr|><|transcribe|>"
    assert before(True, task="translate") == "<|startoftranscript|><|fr|><|translate|>"
    assert before(False).endswith("<|transcribe|><|notimestamps|>")
    assert before(True, initial_prompt="Ann").startswith("<|startofprev|> Ann<|startoftranscript|>")
    long = before(True, initial_prompt="x" * 200 + "end")
    assert long.startswith("<|startofprev|>xxx")
    assert "xend<|startoftranscript|>" in long, "the last words are kept"


def test_a_sign_of_the_models_own_is_no_prompt(ear: WhisperEar) -> None:
    with pytest.raises(InputRejected, match="initial_prompt"):
        heard(ear, initial_prompt="<|endoftext|>")


def test_a_long_recording_is_heard_window_by_window(ear: WhisperEar) -> None:
    job = Told()
    found = heard(ear, 7.0, job)
    steps = [step for step, total in job.steps if total == 4]
    assert len(steps) == len(job.steps) >= 5
    assert steps == sorted(steps)
    assert {0, 2, 4} <= set(steps)
    times = [moment for segment in found.segments for moment in (segment.start, segment.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 7.0
    assert times[-1] > 5, "the last window was heard too"


def test_without_timestamps_windows_end_where_nobody_speaks(constant: Constant) -> None:
    ear = constant(SURE)
    silence = np.zeros(3200, np.float32)
    samples = np.concatenate([noise(1.5), silence, noise(1.4), silence])
    found = ear.hear(samples, asked(enable_timestamps=False), Told())
    assert len(found.segments) == 2
    assert 1.5 <= found.segments[0].end == found.segments[1].start <= 1.7


def test_silence_is_not_even_looked_at(constant: Constant) -> None:
    ear = constant(SURE)
    for quiet in (np.zeros(5 * 16_000, np.float32), noise(5) * 1e-3):
        found = ear.hear(quiet, asked(), Told())
        assert (found.text, found.confidence, found.language) == ("", None, None)
    assert ear.hear(np.zeros(0, np.float32), asked(), Told()).segments == ()


def test_confidence_is_the_networks_own(constant: Constant) -> None:
    found = heard(constant(SURE), enable_timestamps=False, language="de")
    assert set(found.text) == {"h"}
    chance = math.exp(2) / sum(map(math.exp, SURE.values()))
    assert found.confidence == pytest.approx(chance, abs=1e-4)


def test_the_language_is_detected_with_its_probability(constant: Constant) -> None:
    ear = constant(SURE)
    found = heard(ear, enable_timestamps=False)
    among = math.exp(1) / (math.exp(0) + math.exp(1) + math.exp(-1))
    assert (found.language, found.language_probability) == ("de", pytest.approx(among, abs=1e-4))
    told = heard(ear, enable_timestamps=False, language="fr")
    assert (told.language, told.language_probability) == ("fr", None)


@pytest.mark.parametrize("stamped", [True, False])
def test_a_text_begins_with_a_blank_only_if_it_may(constant: Constant, stamped: bool) -> None:
    ear = constant({SPACE: 9.0, "h": 5.0, "<|0.20|>": 1.0, "<|1.00|>": 0.0})
    assert heard(ear, enable_timestamps=stamped, suppress_blank=False).text == ""
    assert heard(ear, enable_timestamps=stamped, suppress_blank=True).text == "h"


UNSURE = {"<|nospeech|>": 3.0, "h": 1.0, "i": 0.9, "j": 0.8}  # 75 % that nobody speaks, 10 % for an h


def test_a_window_heard_badly_and_likely_silent_is_skipped(constant: Constant) -> None:
    ear = constant(UNSURE)
    plain = {"enable_timestamps": False, "language": "en"}
    assert heard(ear, **plain, logprob_threshold=-1.0).text == ""
    assert heard(ear, **plain, logprob_threshold=-1.0, no_speech_threshold=0.9).text != ""
    assert set(heard(ear, **plain, logprob_threshold=-20.0).text) == {"h"}, "heard well enough"


def test_a_window_heard_badly_is_heard_again_at_a_higher_temperature(constant: Constant) -> None:
    ear = constant({"h": 1.0, "i": 0.9, "j": 0.8})
    plain = {"enable_timestamps": False, "language": "en"}
    assert set(heard(ear, **plain, logprob_threshold=-20.0).text) == {"h"}, "and no more"
    again = heard(ear, **plain, logprob_threshold=-0.5).text
    assert len(set(again)) > 1, "drawn"
    assert again == heard(ear, **plain, logprob_threshold=-0.5).text, "alike at every attempt"


def test_a_text_that_goes_round_in_circles_is_written_again(
    constant: Constant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper_decoder, "REPETITION", 1.5)
    found = heard(constant({"h": 1.0, "i": 0.9, "j": 0.8}), language="en", enable_timestamps=False)
    assert len(set(found.text)) > 1


def test_temperature_draws(constant: Constant) -> None:
    ear = constant({"h": 1.0, "i": 0.9, "j": 0.8})
    assert len(set(heard(ear, enable_timestamps=False, language="en", temperature=1.0).text)) > 1


def test_words_have_times_within_their_segments(ear: WhisperEar) -> None:
    found = heard(ear, 5.0, word_timestamps=True)
    assert any(segment.words for segment in found.segments)
    for segment in found.segments:
        times = [moment for word in segment.words for moment in (word.start, word.end)]
        assert times == sorted(times)
        assert "".join(word.text for word in segment.words).replace(" ", "") in segment.text.replace(" ", "")
    assert heard(ear, 5.0).text == found.text
    assert not any(segment.words for segment in heard(ear, 5.0).segments)


def test_each_moment_goes_to_one_token_in_order() -> None:
    scores = np.zeros((3, 9), np.float32)
    scores[0, :2], scores[1, 2:3], scores[2, 3:] = 1, 1, 1
    assert aligned(scores) == [0, 2, 3]
    rows = aligned(np.random.default_rng(1).random((6, 6)).astype(np.float32))
    assert rows == list(range(6)), "each has at least one"


def test_a_job_stops_within_a_window(ear: WhisperEar) -> None:
    job = Told(patience=5)
    with pytest.raises(JobStopped):
        heard(ear, 7.0, job)
    assert job.steps == [(0, 4)]
    assert torch.is_inference_mode_enabled() is False
    assert heard(ear).text, "the next job is heard"


def test_a_job_stops_between_windows(ear: WhisperEar) -> None:
    class Impatient(Told):
        def progress(self, step: int, total: int, preview: object = None) -> None:
            super().progress(step, total)
            if step:
                raise JobStopped("cancelled")

    job = Impatient()
    with pytest.raises(JobStopped):
        heard(ear, 7.0, job)
    assert job.steps[-1][0] < 4


def test_a_model_for_english_alone_needs_no_signs_for_it(tmp_path: Path) -> None:
    ear = WhisperEar(model_of(save_whisper(tmp_path, english_only=True)), "cpu")
    found = heard(ear)
    assert (found.language, found.language_probability) == ("en", None)
    assert len(ear._decoder.prompt("en", asked(), True)) == 1


B = 1000  # the first timestamp


@pytest.mark.parametrize(
    ("tokens", "spans", "known"),
    [
        ([B, 1, 2, B + 40], [Span(0, 40, 0, 4)], 100),
        ([B, 1, B + 30, B + 30, 2, B + 80], [Span(0, 30, 0, 3), Span(30, 80, 3, 6)], 100),
        ([B, 1, B + 30, B + 30, 2], [Span(0, 30, 0, 3)], 30),
        ([B, 1, B + 30, B + 30, 2, B + 60, B + 60], [Span(0, 30, 0, 3), Span(30, 60, 3, 6)], 60),
        ([B + 10, 1, 2], [Span(0, 10, 0, 3)], 100),
        ([1, 2], [Span(0, 100, 0, 2)], 100),
        ([B], [Span(0, 100, 0, 1)], 100),
        ([B, 1, B + 180], [Span(0, 100, 0, 3)], 100),
        ([], [Span(0, 100, 0, 0)], 100),
    ],
    ids=["one", "two", "cut", "closed", "one stamp", "none", "a stamp alone", "beyond the window", "nothing"],
)
def test_timestamps_split_a_window(tokens: list[int], spans: list[Span], known: int) -> None:
    assert split(tokens, B, 100) == (spans, known)
    assert all(one.end <= two.start for one, two in pairwise(spans))
