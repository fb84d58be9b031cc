from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from shared.settings import get_settings
from tests.speech.tiny import build_speecht5, build_vits
from workers.runtime.runner import JobStopped
from workers.speech.runner import SpeechRunner
from workers.speech.spec import SYNTHESIZE, SynthesizeInput


class RecordedJob:
    """A job that keeps what a runner reports; it stops at step `stop_at`."""

    id, operation, wants_preview = "job", SYNTHESIZE.name, False

    def __init__(self, stop_at: int | None = None, **inputs: Path) -> None:
        self.inputs = inputs
        self.steps: list[tuple[int, int]] = []
        self.files: dict[str, bytes] = {}
        self._stop_at = stop_at

    def progress(self, step: int, total: int, preview: Any = None) -> None:
        self.steps.append((step, total))
        if step == self._stop_at:
            raise JobStopped("cancelled")

    def save(self, name: str, content: bytes, media_type: str) -> None:
        self.files[name] = content
        self.media_type = media_type

    @property
    def content(self) -> bytes:
        (content,) = self.files.values()
        return content

    def sound(self) -> tuple[np.ndarray, int]:
        """The samples of its file, and their rate."""
        return soundfile.read(io.BytesIO(self.content), dtype="float32")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models "t5" (voices ann and bob) and "vits" (two speakers)."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    build_speecht5(root / "speech" / "t5")
    build_vits(root / "speech" / "vits")
    return root


@pytest.fixture(scope="module")
def models_dir(built: Path) -> Iterator[Path]:
    """The same as ATELIER_MODELS_DIR."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATELIER_MODELS_DIR", str(built))
        get_settings.cache_clear()
        yield built
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def say(models_dir: Path) -> Iterator[Any]:
    """Speaks through the runner of the model that is asked for; the job and the output."""
    runners: dict[str, SpeechRunner] = {}

    def run(text: str = "Hello there.", job: RecordedJob | None = None, **fields: Any) -> tuple[RecordedJob, Any]:
        request = SYNTHESIZE.resolve(SynthesizeInput(text=text, **fields))
        if request.model not in runners:
            runners[request.model] = SpeechRunner()
            runners[request.model].setup("cpu", request.model)
        job = job or RecordedJob()
        return job, runners[request.model].run(request, job)

    yield run
    for runner in runners.values():
        runner.close()
