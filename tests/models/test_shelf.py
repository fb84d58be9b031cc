"""What is done with models that are here: imported, verified, deleted; and what is unfinished goes in the end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.catalog.available import AVAILABLE
from shared.errors import Unavailable
from shared.settings import OWNERS, get_settings
from tests.models.conftest import Shelf
from tests.models.hub_server import PICKLE, FakeHub, safetensors, transformer
from workers.models import rules
from workers.models.faults import NameTaken, UnsafeModel
from workers.models.workspace import KEPT_SECONDS, Workspace, sweep
from workers.runtime.runner import InputRejected

MODEL = {"family": "predict", "name": "m"}


@pytest.fixture
def imports(tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ATELIER_IMPORT_DIR with the model `bert`."""
    folder = tmp_path / "imports"
    for name, content in transformer(vocab__txt=b"a", evil__py=b"import os", pytorch_model__bin=PICKLE).items():
        (folder / "bert").mkdir(parents=True, exist_ok=True)
        (folder / "bert" / name).write_bytes(content)
    monkeypatch.setattr(get_settings(), "import_dir", folder)
    return folder


def take(shelf: Shelf, path: str = "bert", **more: Any) -> dict[str, Any]:
    return shelf.run("import", {"path": path, "name": "m", "task": "fill-mask", **more})


def test_an_import_is_checked_like_a_download(shelf: Shelf, imports: Path, hub: FakeHub) -> None:
    output = take(shelf, licence="mit")
    assert (output["status"], output["source"], output["model_id"]) == ("completed", "import", "bert")
    there = shelf.files("predict/m")
    assert sorted(there) == ["atelier-source.json", "config.json", "model.safetensors", "vocab.txt"]
    assert json.loads(there["atelier-source.json"])["licence"] == "mit"
    assert (shelf.left_over(), hub.requests("/")) == ([], [])
    with pytest.raises(NameTaken):
        take(shelf)
    (imports / "bert" / "config.json").write_bytes(b'{"auto_map": {}}')
    with pytest.raises(UnsafeModel, match="auto_map"):
        take(shelf, force=True)
    assert (shelf.files("predict/m"), shelf.left_over()) == (there, [])


def test_an_import_stays_within_its_folder(shelf: Shelf, imports: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    for name, content in transformer().items():
        (secret / name).write_bytes(content)
    (imports / "out").symlink_to(secret)
    (imports / "half").mkdir()
    (imports / "half" / "config.json").write_bytes(b"{}")
    (imports / "half" / "model.safetensors").symlink_to(secret / "model.safetensors")
    for path, kind in {"out": InputRejected, "none": InputRejected, "half": UnsafeModel}.items():
        with pytest.raises(kind):
            take(shelf, path)
    for path in ("../secret", "/etc", "bert/../../secret", "a\\b", "./bert", "bert//", ""):
        with pytest.raises(ValidationError):
            take(shelf, path)
    assert shelf.models() == []


def test_nothing_is_imported_where_no_folder_is_set_apart(shelf: Shelf) -> None:
    with pytest.raises(Unavailable, match="ATELIER_IMPORT_DIR"):
        take(shelf)


def test_verify_finds_a_flipped_byte(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer(vocab__txt=b"abc"))
    shelf.download("acme/bert")
    assert shelf.run("verify", MODEL)["success"] is True
    folder = shelf.models_dir / "predict" / "m"
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-7] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").unlink()
    (folder / "vocab.txt").write_bytes(b"abcd")
    found = shelf.run("verify", MODEL)
    assert found["success"] is False
    assert {entry["file"]: entry["problem"] for entry in found["problems"]} == {
        **{"model.safetensors": "sha256", "config.json": "missing", "vocab.txt": "size"}
    }
    with pytest.raises(InputRejected, match="Model not found in cache: other"):
        shelf.run("verify", MODEL | {"name": "other"})


def test_delete_takes_the_model_and_what_is_unfinished_of_it(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer())
    hub.add("acme/lora", {"a.safetensors": safetensors()})
    shelf.download("acme/bert")
    shelf.download("acme/lora", "style", task="lora")
    size = sum(file["size"] for file in shelf.download("acme/bert")["download_info"]["files"])
    Workspace(shelf.models_dir, "m").begin({})
    assert shelf.run("delete", MODEL)["freed_bytes"] == size
    assert (shelf.models(), shelf.left_over()) == (["image/loras/style"], [])
    with pytest.raises(InputRejected, match="Model not found in cache: m"):
        shelf.run("delete", MODEL)
    shelf.run("delete", {"family": "image", "kind": "adapter", "name": "style"})
    assert shelf.models() == []
    (shelf.models_dir / "predict" / "m").mkdir(parents=True)
    with pytest.raises(InputRejected, match="by hand"):
        shelf.run("delete", MODEL)


def test_a_delete_that_was_interrupted_is_finished(shelf: Shelf, hub: FakeHub) -> None:
    hub.add("acme/bert", transformer())
    shelf.download("acme/bert")
    (shelf.models_dir / "predict" / "m").rename(shelf.models_dir / ".partial" / ".old-m")
    assert shelf.run("delete", MODEL)["success"] is True
    assert shelf.left_over() == []


def test_what_nobody_goes_on_with_goes_after_a_week(tmp_path: Path) -> None:
    old, new = Workspace(tmp_path, "old"), Workspace(tmp_path, "new")
    for space in (old, new):
        with space.locked(lambda: None):
            space.begin({})
    for path in (tmp_path / ".partial" / "old", *(tmp_path / ".partial" / "old").rglob("*")):
        os.utime(path, (0, path.stat().st_mtime - KEPT_SECONDS - 10))
    with old.locked(lambda: None):
        sweep(tmp_path)
        assert old.plan() == {}
    sweep(tmp_path)
    assert (old.plan(), new.plan()) == (None, {})


def test_a_second_download_of_a_name_waits_for_the_first(tmp_path: Path) -> None:
    class Cancelled(BaseException):
        pass

    def wait() -> None:
        raise Cancelled

    space = Workspace(tmp_path, "m")
    with space.locked(wait), pytest.raises(Cancelled), Workspace(tmp_path, "m").locked(wait):
        pass


@pytest.mark.parametrize("model", AVAILABLE, ids=lambda model: model.name)
def test_what_is_offered_could_be_asked_for(model: Any, shelf: Shelf) -> None:
    assert rules.TASKS.get(model.task) == model.family
    assert rules.naming_problem(model.name) is None
    assert rules.repository_problem(model.repository) is None
    if model.usable:
        assert (
            rules.owner_problem(
                model.repository, experimental=False, settings=get_settings().model_copy(update={"hub_owners": OWNERS})
            )
            is None
        )
    assert bool(model.instead) is not model.usable
    assert model.max_text or model.task != "text-to-speech" or not model.usable
