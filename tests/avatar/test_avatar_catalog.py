"""Which avatar models a worker can serve, and which one answers a request that names none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import get_settings
from workers.avatar.catalog import FILES, HOUSE, HOUSE_MODEL, find_models
from workers.avatar.spec import GENERATE, Avatar


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """ATELIER_MODELS_DIR/avatar with the whole model "mine", and "half", which lacks a file."""
    for name, files in (("mine", FILES), ("half", FILES[:-1])):
        (tmp_path / "avatar" / name).mkdir(parents=True)
        for file in files:
            shutil.copy(HOUSE / file, tmp_path / "avatar" / name)
    monkeypatch.setenv("ATELIER_MODELS_DIR", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def test_whole_folders_are_found(shelf: Path) -> None:
    assert set(find_models()) == {HOUSE_MODEL, "mine"}


def test_the_setting_names_the_default(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert GENERATE.resolve(Avatar()).model == HOUSE_MODEL
    monkeypatch.setenv("ATELIER_AVATAR_MODEL", str(shelf / "avatar" / "mine"))
    get_settings.cache_clear()
    assert GENERATE.resolve(Avatar()).model == "mine"
    assert GENERATE.resolve(Avatar(model=HOUSE_MODEL)).model == HOUSE_MODEL
