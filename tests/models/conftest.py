from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from shared.family import CompletedJob
from shared.settings import get_settings
from tests.models.hub_server import FILES_HOST, HUB_HOST, TOKEN, FakeHub, serving_hub
from workers.models import transfer
from workers.models.runner import ModelsRunner
from workers.models.spec import MODELS
from workers.runtime.runner import JobStopped


class RecordedJob:
    """A job that keeps what it is told; it stops where `stop` says so, for `reason`."""

    id = "job"
    wants_preview = cancelled = False
    inputs: Mapping[str, Path] = MappingProxyType({})

    def __init__(self, operation: str, stop: Callable[[int, int], bool], reason: str) -> None:
        self.operation, self._stop, self._reason = operation, stop, reason
        self.steps: list[tuple[int, int]] = []

    def progress(self, step: int, total: int, preview: Any = None) -> None:
        self.steps.append((step, total))
        if self._stop(step, total):
            raise JobStopped(self._reason)

    def save(self, name: str, content: bytes, media_type: str) -> None:
        raise AssertionError("nothing is saved")


class Shelf:
    """The models family's runner on a folder of its own."""

    def __init__(self, models_dir: Path, hub: FakeHub) -> None:
        self.models_dir, self.hub = models_dir, hub

    def run(
        self,
        name: str,
        body: dict[str, Any],
        stop: Callable[[int, int], bool] = lambda *_: False,
        reason: str = "cancelled",
    ) -> dict[str, Any]:
        """The output of `models.NAME`."""
        operation = MODELS.operation(f"models.{name}")
        request = operation.resolve(operation.input.model_validate(body))
        self.job = RecordedJob(operation.name, stop, reason)
        runner = ModelsRunner()
        runner.setup("cpu", "default")
        output = runner.run(request, self.job)
        reply = operation.reply(CompletedJob("job", request.model_dump(), output, {}, 0.0))
        operation.reply_schema.model_validate(dict(reply))
        return output

    def download(self, model_id: str, name: str = "m", **more: Any) -> dict[str, Any]:
        options = {key: more.pop(key) for key in ("stop", "reason") if key in more}
        body = {"source": "huggingface", "model_id": model_id, "name": name, "task": "fill-mask", **more}
        return self.run("download", body, **options)

    def files(self, place: str = "") -> dict[str, bytes]:
        """What lies there, unfinished things and locks included."""
        root = self.models_dir / place
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def models(self) -> list[str]:
        """The folders of models."""
        found = [path.parent for path in self.models_dir.rglob("atelier-source.json")]
        return sorted(path.relative_to(self.models_dir).as_posix() for path in found)

    def left_over(self) -> list[str]:
        """What is unfinished."""
        return sorted(name for name in self.files(".partial") if not name.startswith(".locks/"))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving_hub() as fake:
        yield fake


def hub_environment(hub: FakeHub, models_dir: Path) -> dict[str, str]:
    """How the processes are told of the hub."""
    return {
        "ATELIER_MODELS_DIR": str(models_dir),
        "ATELIER_HUB_ENDPOINT": hub.endpoint,
        "ATELIER_HUB_TOKEN": TOKEN,
        "ATELIER_HUB_OWNERS": "acme",
        "ATELIER_EGRESS_PORTS": f"{hub.hub.port},{hub.files.port}",
        "ATELIER_EGRESS_NETWORKS": f"{HUB_HOST}/32,{FILES_HOST}/32",
        "ATELIER_MODELS_RESERVE_BYTES": "0",
    }


@pytest.fixture
def shelf(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    for name, value in hub_environment(hub, tmp_path / "models").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(transfer, "PAUSES", (0.0,))
    monkeypatch.setattr(transfer, "SILENCE", 0.5)
    get_settings.cache_clear()
    yield Shelf(tmp_path / "models", hub)
    get_settings.cache_clear()
