"""From a request to its file: words → sentences → an engine → speed and pitch → volume → encoder."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from shared.errors import ValidationFailed
from workers.runtime.runner import InputRejected, Job
from workers.speech.describing import describe
from workers.speech.effects import amplified, shaped
from workers.speech.encoding import encoded
from workers.speech.fitting import DEFAULT, check_speech
from workers.speech.languages import closest
from workers.speech.model import SpeechModel
from workers.speech.sentences import sentences
from workers.speech.speakers import read_speaker
from workers.speech.spec import SynthesizeInput
from workers.speech.voices.voice import Manner, Samples, Voice
from workers.speech.wording import worded


def speak(voice: Voice, model: SpeechModel, request: SynthesizeInput, job: Job) -> dict[str, Any]:
    """The output of `speech.synthesize`; the file is `speech.<format>`. Raises InputRejected."""
    began, text, kind = time.monotonic(), request.text or "", request.output_format or "wav"
    card = describe(model)
    try:
        check_speech(request, {model.name: card})
    except ValidationFailed as error:  # the catalog has changed since the gateway asked the same
        raise InputRejected(error.message) from None
    manner = _manner(voice, card, request, job)
    language = manner.language or voice.language
    wording = worded(text, language) if request.normalize_text and language else text
    said = sentences(wording, language or "en", voice.longest)
    voice.begin(request.seed or 0)
    sound, gain = amplified(_spoken(voice, said, manner, request.pitch, job), request.volume)
    if not len(sound):
        raise InputRejected("text: there is nothing in it that can be said.")
    file = encoded(sound, voice.rate, kind, request.quality)
    name = f"speech.{kind}"
    job.save(name, file.content, file.media_type)
    return {
        "files": [name],
        "audio_format": kind,
        "duration": round(len(sound) / voice.rate, 4),
        "sample_rate": file.rate,
        "channels": 1,
        "generation_time": round(time.monotonic() - began, 4),
        "model_info": {
            "model_name": model.name,
            "voice": _name(voice, manner),
            "language": language,
            "actual_model": voice.engine,
        },
        "text_length": len(text),
        "metadata": {
            "sentences": said,
            "gain": round(gain, 4),
            **request.model_dump(include={"speed", "pitch", "volume", "emotion", "quality", "normalize_text", "seed"}),
        },
    }


def _manner(voice: Voice, card: dict[str, Any], request: SynthesizeInput, job: Job) -> Manner:
    return Manner(
        voice=None if request.voice == DEFAULT else request.voice,
        language=closest(request.language, card["languages"] or [request.language]) if request.language else None,
        emotion=request.emotion,
        speed=request.speed,
        speaker=read_speaker(request, job),
    )


def _name(voice: Voice, manner: Manner) -> str:
    return "speaker_embedding" if manner.speaker is not None else manner.voice or voice.voice


def _spoken(voice: Voice, said: list[str], manner: Manner, pitch: float, job: Job) -> Samples:
    """All sentences with the pauses between them; every sentence is a step."""
    pause = np.zeros(round(voice.pause / manner.speed * voice.rate), np.float32)
    pieces: list[Samples] = []
    for number, sentence in enumerate(said, 1):
        spoken = voice.say(sentence, manner)
        shape = shaped(spoken.samples, voice.rate, manner.speed / spoken.speed, pitch)
        pieces += [pause, shape] if pieces else [shape]
        job.progress(number, len(said))
    return np.concatenate([*pieces, np.zeros(0, np.float32)])
