from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.avatar.tiny import build
from workers.avatar.aetherist import AetheristGenerator
from workers.avatar.aetherist.checkpoints import save_generator


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator() -> AetheristGenerator:
    return build()


@pytest.fixture
def folder(generator: AetheristGenerator, tmp_path: Path) -> Path:
    """The tiny generator as a model's folder."""
    save_generator(generator, tmp_path / "tiny")
    return tmp_path / "tiny"
