from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.settings import get_settings
from tests.image.tiny import build, build_lora
from workers.image.runner import ImageRunner
from workers.image.spec import GenerateInput


class RecordedJob:
    """A job that keeps what a runner reports; it stops at step `stop_at`."""

    id = "job"
    operation = "image.generate"
    wants_preview = False

    def __init__(self, stop_at: int | None = None) -> None:
        self.steps: list[tuple[int, int]] = []
        self.files: dict[str, bytes] = {}
        self.previews: list[bytes] = []
        self._stop_at = stop_at

    def progress(self, step: int, total: int, preview: Any = None) -> None:
        from workers.runtime.runner import JobStopped

        self.steps.append((step, total))
        if self.wants_preview and preview:
            self.previews.append(preview())
        if step == self._stop_at:
            raise JobStopped("cancelled")

    def save(self, name: str, content: bytes, media_type: str) -> None:
        self.files[name] = content


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """ATELIER_MODELS_DIR with the model "tiny" and the LoRAs "warm", "cold" and "misfit"."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    tiny = build(root / "image" / "tiny")
    build(root / "image" / "tiny-half", variant="fp16")
    build_lora(tiny, root / "image" / "loras" / "warm.safetensors", 1)
    build_lora(tiny, root / "image" / "loras" / "cold.v2.safetensors", 2)
    build_lora(tiny, root / "image" / "loras" / "misfit.safetensors", 3, wrong=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATELIER_MODELS_DIR", str(root))
        get_settings.cache_clear()
        yield root
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def runner(models_dir: Path) -> Iterator[ImageRunner]:
    runner = ImageRunner()
    runner.setup("cpu", "tiny")
    yield runner
    runner.close()


@pytest.fixture
def draw(runner: ImageRunner):
    """Draws a small picture; the job and the output."""

    def run(job: RecordedJob | None = None, **fields: Any) -> tuple[RecordedJob, dict[str, Any]]:
        job = job or RecordedJob()
        given = {"prompt": "a red circle", "num_inference_steps": 3, "width": 256, "height": 256, "seed": 5}
        output = runner.run(GenerateInput(**{**given, "model": "tiny", **fields}), job)
        return job, output

    return run
