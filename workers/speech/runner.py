"""The speech family's runner: one resident engine, a voice that speaks or an ear that hears."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pydantic import BaseModel

from workers.runtime.devices import device_errors
from workers.runtime.runner import InputRejected, Job, ModelMissing
from workers.speech.architectures import HEARING, SPEAKING
from workers.speech.catalog import find_models
from workers.speech.hearing.transcribing import transcribe
from workers.speech.model import SpeechModel
from workers.speech.speaking import speak
from workers.speech.spec import SynthesizeInput
from workers.speech.transcription_schema import Transcription


def engine_for(model: SpeechModel, device: str) -> Any:
    """The model's engine, loaded; raises ModelMissing."""
    module, name = model.engine.split(":")
    return getattr(import_module(module), name)(model, device)


class SpeechRunner:
    """See `workers.runtime.runner.Runner`."""

    def setup(self, device: str, model: str) -> None:
        """Load the named model; raises ModelMissing, OutOfMemory."""
        found = find_models().get(model)
        if found is None:
            raise ModelMissing(f"Model '{model}' is not on this worker's disk.")
        self._model, self._device = found, device
        self._engine = engine_for(found, device)

    def run(self, request: BaseModel, job: Job) -> dict[str, Any]:
        """`speech.synthesize` or `speech.transcribe`."""
        with device_errors():
            if isinstance(request, Transcription):
                if self._model.task != HEARING:
                    raise InputRejected(f"model: '{self._model.name}' speaks; it cannot hear.")
                return transcribe(self._engine, self._model, self._device, request, job)
            assert isinstance(request, SynthesizeInput)
            if self._model.task != SPEAKING:
                raise InputRejected(f"model: '{self._model.name}' hears; it cannot speak.")
            return speak(self._engine, self._model, request, job)

    def status(self) -> dict[str, Any]:
        """What is loaded, as /models/status tells it."""
        return {"loaded": True, "task": self._model.task, "device": self._device}

    def close(self) -> None:
        """Let go of the weights."""
        self._engine.close()
        del self._engine
