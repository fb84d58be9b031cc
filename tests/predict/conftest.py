from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.settings import get_settings
from tests.predict.tiny import build_all
from workers.predict.runner import PredictRunner
from workers.predict.spec import PREDICT, PredictInput
from workers.runtime.runner import JobStopped


class RecordedJob:
    """A job that keeps what a runner reports; it is cancelled from step `stop_at` on."""

    id = "job"
    operation = PREDICT.name
    wants_preview = False
    cancelled = False

    def __init__(self, stop_at: int | None = None, inputs: dict[str, Path] | None = None) -> None:
        self.steps: list[tuple[int, int]] = []
        self.inputs = inputs or {}
        self._stop_at = stop_at

    def progress(self, step: int, total: int, preview: Any = None) -> None:
        self.steps.append((step, total))
        if step == self._stop_at:
            self.cancelled = True
            raise JobStopped("cancelled")

    def save(self, name: str, content: bytes, media_type: str) -> None:
        raise AssertionError("no task makes files")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of each task, by the task's name."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    build_all(root / "predict")
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
def runner_of(models_dir: Path) -> Callable[[str], PredictRunner]:
    """The runner of a model by its name, loaded once."""
    loaded: dict[str, PredictRunner] = {}

    def find(name: str) -> PredictRunner:
        if name not in loaded:
            loaded[name] = PredictRunner()
            loaded[name].setup("cpu", name)
        return loaded[name]

    return find


@pytest.fixture
def ask(runner_of: Callable[[str], PredictRunner]) -> Callable[..., dict[str, Any]]:
    """One request's output."""

    def run(model: str, inputs: Any = None, job: RecordedJob | None = None, **fields: Any) -> dict[str, Any]:
        return runner_of(model).run(asked(model, inputs, **fields), job or RecordedJob())

    return run


def asked(model: str, inputs: Any = None, **fields: Any) -> PredictInput:
    """The request as the gateway resolves it."""
    body = {"model_name": model, **fields} | ({} if inputs is None else {"inputs": inputs})
    return PREDICT.resolve(PredictInput.model_validate(body))
