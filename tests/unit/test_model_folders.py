"""What a folder says of the model in it: parameters and bytes from headers, hashes, whoever downloaded it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared.family import ModelFile
from workers import model_folders
from workers.model_folders import SOURCE_FILE, Hashes, describe

SHA = "a" * 64


@pytest.fixture(autouse=True)
def hashes(monkeypatch: pytest.MonkeyPatch) -> Hashes:
    fresh = Hashes()
    monkeypatch.setattr(model_folders, "HASHES", fresh)
    return fresh


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """10 numbers in half precision, 4 in single precision, and a counter; two files and a configuration."""
    path = tmp_path / "mine"
    (path / "unet").mkdir(parents=True)
    save_file({"a": torch.zeros(2, 5, dtype=torch.float16)}, path / "unet" / "model.safetensors")
    save_file({"b": torch.zeros(4), "steps": torch.zeros(3, dtype=torch.int64)}, path / "head.safetensors")
    (path / "config.json").write_text("{}")
    (path / ".lock").touch()
    return path


def test_numbers_bytes_and_precision_come_from_the_headers(folder: Path) -> None:
    card = describe("model", "mine", folder, task="text-to-image")
    assert (card.parameters, card.dtype, card.memory_bytes) == (14, "float16", 10 * 2 + 4 * 4 + 3 * 8)
    assert [file.name for file in card.files] == ["config.json", "head.safetensors", "unet/model.safetensors"]
    assert (card.title, card.source, card.task) == ("mine", "folder", "text-to-image")


def test_only_the_weights_that_are_loaded_count(folder: Path) -> None:
    card = describe("model", "mine", folder, weights=[folder / "head.safetensors"])
    assert (card.parameters, card.dtype, len(card.files)) == (4, "float32", 3)


def test_hashes_are_computed_apart_and_again_when_a_file_changes(folder: Path, hashes: Hashes) -> None:
    def known() -> dict[str, str | None]:
        return {file.name: file.sha256 for file in describe("model", "mine", folder).files}

    assert set(known().values()) == {None}
    hashes.compute()
    assert known()["config.json"] == hashlib.sha256(b"{}").hexdigest()
    assert None not in known().values()
    (folder / "config.json").write_text('{"more": 1}')
    assert known()["config.json"] is None
    hashes.compute()
    assert known()["config.json"] == hashlib.sha256(b'{"more": 1}').hexdigest()


def test_the_downloads_own_words_are_believed_as_long_as_the_sizes_fit(folder: Path) -> None:
    told = {
        **{"family": "image", "task": "text-to-image", "source": "huggingface", "repository": "who/what"},
        **{"revision": "b" * 40, "licence": "apache-2.0", "downloaded_at": "2026-11-01T00:00:00Z"},
        "files": [
            {"name": "config.json", "size": 2, "sha256": SHA},
            {"name": "head.safetensors", "size": 1, "sha256": SHA},
        ],
    }
    (folder / SOURCE_FILE).write_text(json.dumps(told))
    card = describe("model", "mine", folder)
    assert (card.source, card.repository, card.revision) == ("huggingface", "who/what", "b" * 40)
    assert (card.licence, card.task) == ("apache-2.0", "text-to-image")
    assert card.files[0] == ModelFile("config.json", 2, SHA)
    assert card.files[1].sha256 is None
    assert SOURCE_FILE not in {file.name for file in card.files}


@pytest.mark.parametrize("text", ["", "[]", '{"files": [{"name": "x"}]}', '{"files": 1}', "\xff"])
def test_a_broken_source_file_says_nothing(folder: Path, text: str) -> None:
    (folder / SOURCE_FILE).write_bytes(text.encode("latin-1"))
    assert describe("model", "mine", folder).source == "folder"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, b"\xff" * 20, (5).to_bytes(8, "little") + b"[1,2]", (4).to_bytes(8, "little") + b"{}}}"],
    ids=["empty", "endless", "long", "no object", "no JSON"],
)
def test_a_broken_file_has_no_known_parameters(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    card = describe("adapter", "x", file)
    assert (card.parameters, card.dtype, card.memory_bytes) == (None, None, None)
    assert card.files == (ModelFile("x.safetensors", len(content)),)
