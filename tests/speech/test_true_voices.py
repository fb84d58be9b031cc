"""True networks through the runner: SpeechT5 with its vocoder, VITS; speakers, voices, speed, seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.speech.conftest import RecordedJob
from tests.speech.tiny import build_bark
from workers.runtime.runner import DeviceFault, InputRejected, ModelMissing, OutOfMemory
from workers.speech.architectures import SPEAKING
from workers.speech.catalog import discover, find_models
from workers.speech.describing import describe
from workers.speech.loading import loading
from workers.speech.model import SpeechModel
from workers.speech.runner import SpeechRunner
from workers.speech.voices.bark import BarkVoice
from workers.speech.voices.voice import Manner
from workers.speech.voices.waveform import WaveformVoice

TEXT = "Hello there, my friend. How are you?"


def speaker(models_dir: Path, name: str) -> list[float]:
    return load_file(models_dir / "speech" / "t5" / "voices" / f"{name}.safetensors")["speaker"].tolist()


@pytest.mark.parametrize("model", ["t5", "vits"])
def test_speed_divides_the_duration_of_every_network(say: Any, model: str) -> None:
    plain = say(TEXT, model=model)[1]
    for speed in (0.5, 2.0):
        assert say(TEXT, model=model, speed=speed)[1]["duration"] == pytest.approx(plain["duration"] / speed, rel=0.01)


@pytest.mark.parametrize("model", ["t5", "vits"])
def test_equal_requests_sound_alike_and_another_seed_does_not(say: Any, model: str) -> None:
    first = say(TEXT, model=model)[0].content
    say("Something else.", model=model)
    assert say(TEXT, model=model)[0].content == first
    if model == "vits":  # so small a SpeechT5 leaves out units, too, and 16 bits do not show it
        assert say(TEXT, model=model, seed=7)[0].content != first


@pytest.mark.parametrize(("model", "voices"), [("t5", ["ann", "bob", "neutral"]), ("vits", ["0", "1"])])
def test_voices_differ_and_the_first_is_the_models_own(say: Any, model: str, voices: list[str]) -> None:
    made = [say(TEXT, model=model, voice=voice) for voice in voices]
    assert len({artifact.content for artifact, _ in made}) == len(voices)
    assert say(TEXT, model=model)[0].content == made[0][0].content
    assert say(TEXT, model=model, voice="default")[1]["model_info"]["voice"] == voices[0]


def test_an_embedding_is_the_voice_however_it_comes(say: Any, models_dir: Path) -> None:
    bob, file = speaker(models_dir, "bob"), models_dir / "speech" / "t5" / "voices" / "bob.safetensors"
    by_name = say(TEXT, model="t5", voice="bob")[0].content
    numbers, output = say(TEXT, model="t5", speaker_embedding=bob)
    assert numbers.content == by_name
    assert output["model_info"]["voice"] == "speaker_embedding"
    asked = {"name": "bob.safetensors"}
    assert say(TEXT, RecordedJob(speaker_file=file), model="t5", speaker_file=asked)[0].content == by_name


@pytest.mark.parametrize(
    "tensors",
    [{"a": torch.ones(511)}, {"a": torch.ones(512), "b": torch.ones(512)}, {"a": torch.zeros(512)}, None],
    ids=["short", "two", "zeros", "no safetensors"],
)
def test_a_file_that_is_no_speaker_is_refused(say: Any, tmp_path: Path, tensors: dict[str, Any] | None) -> None:
    file = tmp_path / "speaker.safetensors"
    if tensors is None:
        file.write_bytes(b"\x08\0\0\0\0\0\0\0{}not so")
    else:
        save_file(tensors, file)
    with pytest.raises(InputRejected, match="speaker_file"):
        say(TEXT, RecordedJob(speaker_file=file), model="t5", speaker_file={"name": file.name})


def test_cards_tell_what_the_folders_hold(models_dir: Path) -> None:
    cards = {card.name: card for card in discover()}
    assert {cards[name].task for name in ("house-voice", "t5", "vits")} == {"text-to-speech"}
    assert cards["t5"].details | {"engine": ""} == {
        "engine": "",
        "max_characters": 5000,
        "voices": ["ann", "bob", "neutral"],
        "languages": [],
        "speaker": True,
        "sample_rate": 16_000,
    }
    assert (cards["vits"].details["voices"], cards["vits"].details["languages"]) == (["0", "1"], ["eng"])
    assert cards["house-voice"].source == "house"


def test_a_folder_appears_and_goes_and_one_that_runs_code_is_never_listed(models_dir: Path) -> None:
    folder = models_dir / "speech" / "mine"
    folder.mkdir()
    config = (models_dir / "speech" / "vits" / "config.json").read_text()

    def listed() -> bool:
        return "mine" in {card.name for card in discover()}

    (folder / "config.json").write_text(config)
    assert not listed(), "it has no weights"
    (folder / "model.safetensors").write_bytes(b"")
    assert listed()
    with pytest.raises(ModelMissing, match="mine"):
        SpeechRunner().setup("cpu", "mine")
    (folder / "config.json").write_text(config.replace("{", '{"auto_map": {"AutoModel": "evil.Evil"}, ', 1))
    assert not listed()
    inner = '{"text_config": {"_attn_implementation_internal": "evil/kernel"}, '
    (folder / "config.json").write_text(config.replace("{", inner, 1))
    assert not listed()
    (folder / "config.json").write_text(config.replace('"VitsModel"', '"BartModel"'))
    assert not listed()
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    folder.rmdir()


def test_a_vocoder_that_brings_code_is_not_loaded_wherever_it_lies(models_dir: Path) -> None:
    inside, beside = models_dir / "speech" / "t5" / "vocoder", models_dir / "speech" / "speecht5_hifigan"
    config = (inside / "config.json").read_text()
    try:
        (inside / "config.json").write_text('{"auto_map": {}}')
        assert "t5" not in find_models()
        inside.rename(beside)
        with pytest.raises(ModelMissing, match="auto_map"):
            SpeechRunner().setup("cpu", "t5")
    finally:
        beside.rename(inside)
        (inside / "config.json").write_text(config)


def test_a_speecht5_needs_its_vocoder(models_dir: Path) -> None:
    vocoder = models_dir / "speech" / "t5" / "vocoder"
    aside = vocoder.rename(vocoder.with_name("aside"))
    try:
        with pytest.raises(ModelMissing, match="vocoder/"):
            SpeechRunner().setup("cpu", "t5")
        aside.rename(models_dir / "speech" / "speecht5_hifigan")
        runner = SpeechRunner()
        runner.setup("cpu", "t5")
        runner.close()
    finally:
        (models_dir / "speech" / "speecht5_hifigan").rename(vocoder)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("full"), OutOfMemory),
        (torch.AcceleratorError("broken"), DeviceFault),
        (RuntimeError("size mismatch"), ModelMissing),
    ],
    ids=repr,
)
def test_only_a_folder_that_does_not_load_is_a_missing_model(error: Exception, told: type[Exception]) -> None:
    with pytest.raises(told), loading("m"):
        raise error


def test_a_missing_model_is_named(models_dir: Path) -> None:
    with pytest.raises(ModelMissing, match="no-such"):
        SpeechRunner().setup("cpu", "no-such")


def test_a_newer_network_speaks_through_transformers_own_pipeline(models_dir: Path) -> None:
    """VITS is one of those that it knows."""
    voice = WaveformVoice(find_models()["vits"], "cpu")
    manner = voice.settle(Manner(voice="default"))
    voice.begin(1)
    first = voice.say(TEXT, manner).samples
    voice.begin(1)
    assert (voice.engine, voice.rate, first.dtype, first.ndim) == ("VitsModel", 16_000, np.float32, 1)
    assert np.array_equal(voice.say(TEXT, manner).samples, first)
    voice.close()


def test_bark_loads_with_its_presets_and_they_set_the_language(tmp_path: Path, models_dir: Path) -> None:
    model = SpeechModel("bark", build_bark(tmp_path / "bark"), SPEAKING, "", {"architectures": ["BarkModel"]})
    card = describe(model)
    assert card["voices"] == ["v2/de_speaker_0", "v2/en_speaker_0"]
    assert (card["languages"], card["sample_rate"], card["max_characters"]) == (["de", "en"], 24_000, 1000)
    voice = BarkVoice(model, "cpu")
    assert (voice.rate, voice.voice, voice.language) == (24_000, "v2/en_speaker_0", "en")
    assert voice.settle(Manner(language="de")).voice == "v2/de_speaker_0"
    assert voice.settle(Manner(voice="v2/de_speaker_0")).language == "de"
    with pytest.raises(InputRejected, match="language"):
        voice.settle(Manner(voice="v2/de_speaker_0", language="en"))
    voice.close()
