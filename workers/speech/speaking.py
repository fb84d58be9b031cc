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

DEFAULT_LANGUAGE = "en"  # of a model that does not say, and a request that does not either


def speak(voice: Voice, model: SpeechModel, request: SynthesizeInput, job: Job) -> dict[str, Any]:
    """The output of `speech.synthesize`; the file is `speech.<format>`. Raises InputRejected."""
    began, text, kind = time.monotonic(), request.text or "", request.output_format or "wav"
    card = describe(model)
    try:
        check_speech(request, {model.name: card})
    except ValidationFailed as error:  # the catalog has changed since the gateway asked the same
        raise InputRejected(error.message) from None
    manner = voice.settle(_manner(card, request, job))
    language = manner.language or DEFAULT_LANGUAGE
    said = sentences(worded(text, language) if request.normalize_text else text, language, voice.longest)
    sound, gain = amplified(_spoken(voice, said, manner, request, job), request.volume)
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
            "voice": manner.voice if manner.speaker is None else "speaker_embedding",
            "language": manner.language,
            "actual_model": voice.engine,
        },
        "text_length": len(text),
        "metadata": {
            "sentences": said,
            "gain": round(gain, 4),
            **request.model_dump(include={"speed", "pitch", "volume", "emotion", "quality", "normalize_text", "seed"}),
        },
    }


def _manner(card: dict[str, Any], request: SynthesizeInput, job: Job) -> Manner:
    return Manner(
        voice=None if request.voice == DEFAULT else request.voice,
        language=closest(request.language, card["languages"] or [request.language]) if request.language else None,
        emotion=request.emotion,
        speed=request.speed,
        speaker=read_speaker(request, job),
    )


def _spoken(voice: Voice, said: list[str], manner: Manner, request: SynthesizeInput, job: Job) -> Samples:
    """All sentences with the pauses between them; every sentence is a step, and has a seed of its own."""
    pause = np.zeros(round(voice.pause / manner.speed * voice.rate), np.float32)
    pieces: list[Samples] = []
    for number, sentence in enumerate(said, 1):
        voice.begin((request.seed or 0) + number)
        spoken = voice.say(sentence, manner)
        shape = shaped(spoken.samples, voice.rate, manner.speed / spoken.speed, request.pitch)
        pieces += [pause, shape] if pieces else [shape]
        job.progress(number, len(said))
    return np.concatenate([*pieces, np.zeros(0, np.float32)])
