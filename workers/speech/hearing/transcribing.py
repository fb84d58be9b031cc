"""One `speech.transcribe`: the recording is read, heard, and written down in JSON and as subtitles."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from shared.errors import AtelierError
from workers.runtime.audio import Sound, read_audio
from workers.runtime.decoding import TooLong
from workers.runtime.runner import InputRejected, Job
from workers.speech.hearing.abilities import ear_details
from workers.speech.hearing.fitting import check_hearing
from workers.speech.hearing.heard import Ear, Heard, Segment
from workers.speech.hearing.samples import resampled
from workers.speech.hearing.subtitles import srt, vtt
from workers.speech.model import SpeechModel
from workers.speech.transcription_schema import Transcription
from workers.speech.transcription_spec import MAX_SECONDS


def transcribe(ear: Ear, model: SpeechModel, device: str, request: Transcription, job: Job) -> dict[str, Any]:
    """The operation's output; its files go to the job. Raises InputRejected and what `job.progress` raises."""
    began = time.perf_counter()
    try:
        check_hearing(request, {model.name: ear_details(model)})
    except AtelierError as error:  # the catalog has changed since the gateway asked the same
        raise InputRejected(error.message) from None
    sound = _read(request, job)
    heard = ear.hear(resampled(sound.samples, sound.rate, ear.rate), request, job)
    files = ["transcript.json", *(["transcript.srt", "transcript.vtt"] if request.enable_timestamps else [])]
    output = {
        **_told(heard, request),
        "duration": round(sound.seconds, 3),
        "processing_time": round(time.perf_counter() - began, 3),
        "model_used": model.name,
        "model_info": {"model": model.name, "model_name": model.name, "device": device},
        "metadata": _metadata(sound, heard, request, files),
    }
    written = json.dumps(output, ensure_ascii=False, indent=1, allow_nan=False)
    job.save(files[0], written.encode(), "application/json")
    if request.enable_timestamps:
        job.save(files[1], srt(heard.segments).encode(), "application/x-subrip")
        job.save(files[2], vtt(heard.segments).encode(), "text/vtt")
    return output


def _read(request: Transcription, job: Job) -> Sound:
    try:
        return read_audio(job.inputs[request.field], request.field, MAX_SECONDS)
    except TooLong as error:
        known = "" if error.seconds is None else f", file_duration: {error.seconds:.1f}"
        raise InputRejected(f"File too large (in seconds: max_duration: {MAX_SECONDS}{known}).") from None


def _told(heard: Heard, request: Transcription) -> dict[str, Any]:
    segments = heard.segments if request.enable_timestamps else ()
    return {
        "text": heard.text,
        "segments": [_segment(segment, request.word_timestamps) for segment in segments],
        "language": heard.language,
        "language_probability": _rounded(heard.language_probability),
        "confidence": _rounded(heard.confidence),
    }


def _segment(segment: Segment, words: bool) -> dict[str, Any]:
    told = {key: _rounded(value) for key, value in asdict(segment).items() if key != "words"}
    if words:
        told["words"] = [{key: _rounded(value) for key, value in asdict(word).items()} for word in segment.words]
    return told


def _metadata(sound: Sound, heard: Heard, request: Transcription, files: list[str]) -> dict[str, Any]:
    return {
        "task": request.task,
        "sample_rate": sound.rate,
        "speech_duration": round(sum(segment.end - segment.start for segment in heard.segments), 3),
        "files": files,
    }


def _rounded(value: Any) -> Any:
    """Milliseconds, and three places of a probability."""
    return round(value, 3) if isinstance(value, float) else value
