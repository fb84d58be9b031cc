"""Pictures: what [-1, 1] becomes in bytes and files, and what comes back from files of any kind."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.avatar.tiny import signature
from workers.avatar.aetherist import pil_to_tensor, resize_tensor, save_image, save_image_grid, tensor_to_pil


def flat(colour: tuple[float, float, float], side: int = 4) -> Tensor:
    return torch.tensor(colour).float()[:, None, None].expand(3, side, side)


@pytest.mark.parametrize(
    ("function", "promised"),
    [
        (save_image, "(tensor, path, normalize=True, format='PNG')"),
        (save_image_grid, "(tensors, path, nrow=8, padding=2)"),
        (tensor_to_pil, "(tensor)"),
        (pil_to_tensor, "(image, device=None)"),
        (resize_tensor, "(tensor, size, mode='bilinear')"),
    ],
)
def test_the_signatures_are_as_promised(function: Callable[..., Any], promised: str) -> None:
    assert signature(function) == promised


def test_every_byte_comes_back() -> None:
    pixels = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    picture = pil_to_tensor(Image.fromarray(pixels))
    assert picture.shape == (3, 16, 16)
    assert (picture.min(), picture.max()) == (-1, 1)
    assert np.array_equal(np.asarray(tensor_to_pil(picture)), pixels)
    assert torch.equal(pil_to_tensor(tensor_to_pil(picture[None])), picture)


@settings(max_examples=30, deadline=None)
@given(value=st.floats(-5, 5))
def test_a_value_is_rounded_to_the_nearest_byte_within_the_range(value: float) -> None:
    back = pil_to_tensor(tensor_to_pil(torch.full((3, 2, 2), value)))
    assert back.mean().item() == pytest.approx(max(-1, min(1, value)), abs=1 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("name", "kind", "off"), [("png", "PNG", 0), ("JPG", "JPEG", 0.05), ("jpeg", "JPEG", 0.05), ("WEBP", "WEBP", 0.05)]
)
def test_files_have_the_format_that_was_asked_for(tmp_path: Path, name: str, kind: str, off: float) -> None:
    picture = pil_to_tensor(tensor_to_pil(flat((0.5, -0.25, 0), 16)))
    path = tmp_path / "picture.of_any_suffix"
    save_image(picture, path, format=name)
    with Image.open(path) as image:
        assert image.format == kind
        assert (pil_to_tensor(image) - picture).abs().max() <= off


def test_without_normalize_the_values_are_shares(tmp_path: Path) -> None:
    save_image(flat((0, 0.2, 1)), tmp_path / "shares", normalize=False)
    with Image.open(tmp_path / "shares") as image:
        assert image.getpixel((0, 0)) == (0, 51, 255)


def test_a_grid_is_filled_row_by_row_on_white(tmp_path: Path) -> None:
    black, red, green = flat((-1, -1, -1)), flat((1, -1, -1))[None], flat((-1, 1, -1))
    save_image_grid([black, red, green], tmp_path / "grid.png", nrow=2, padding=3)
    with Image.open(tmp_path / "grid.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (3 + 2 * (4 + 3), 3 + 2 * (4 + 3), 3)
    expected = np.full_like(pixels, 255)
    expected[3:7, 3:7] = 0
    expected[3:7, 10:14] = (255, 0, 0)
    expected[10:14, 3:7] = (0, 255, 0)
    assert np.array_equal(pixels, expected)


def test_a_grid_is_no_wider_than_its_pictures_and_may_lack_borders(tmp_path: Path) -> None:
    save_image_grid([torch.zeros(3, 4, 5)] * 3, tmp_path / "grid", padding=0)
    with Image.open(tmp_path / "grid") as image:
        assert (image.format, image.size) == ("PNG", (15, 4))


def test_transparency_shows_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    assert pil_to_tensor(image)[:, 0].T.tolist() == [[1, 1, 1], pytest.approx([-1 / 255] * 3)]
    palette = Image.new("P", (1, 1))
    palette.info["transparency"] = 0
    assert (pil_to_tensor(palette) == 1).all()


def test_pictures_of_16_bits_keep_their_tones() -> None:
    written = io.BytesIO()
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(written, "PNG")
    with Image.open(written) as image:
        assert ((pil_to_tensor(image)[0, 0] + 1) * 127.5).tolist() == pytest.approx([0, 1, 128, 255])


def test_resizing_keeps_the_dimensions_and_averages_what_it_leaves_out() -> None:
    checkers = (torch.arange(15)[:, None] + torch.arange(15)) % 2 * 2.0 - 1
    picture = checkers.expand(3, 15, 15)
    for mode in ("bilinear", "bicubic", "area"):
        small = resize_tensor(picture, 3, mode)
        assert small.shape == (3, 3, 3)
        assert small.abs().max() < 0.2
    assert resize_tensor(picture, 3, "nearest").abs().min() == 1
    assert resize_tensor(picture[None], (5, 40)).shape == (1, 3, 5, 40)
    assert torch.equal(resize_tensor(picture, 15), picture)


@pytest.mark.parametrize(
    ("tensor", "size", "mode", "message"),
    [
        (torch.zeros(3, 4, 4), 0, "area", "size must be at least 1"),
        (torch.zeros(3, 4, 4), 2, "lanczos", "mode must be one of nearest"),
        (torch.zeros(4, 4), 2, "area", r"must be \[C, H, W\]"),
        (torch.zeros(3, 4, 4).byte(), 2, "area", "must be floating point"),
    ],
)
def test_a_bad_size_is_refused(tensor: Tensor, size: int, mode: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize_tensor(tensor, size, mode)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(2, 3, 4, 4), r"must be \[3, H, W\] or \[1, 3, H, W\], not \[2, 3, 4, 4\]"),
        (torch.zeros(1, 4, 4), r"not \[1, 4, 4\]"),
        (torch.full((3, 4, 4), torch.nan), "finite"),
        (torch.zeros(3, 4, 4).byte(), "floating point"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, tensor: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tensor_to_pil(tensor)
    with pytest.raises(ValueError, match=message):
        save_image_grid([tensor], tmp_path / "grid.png")
    assert not list(tmp_path.iterdir())


def test_a_bad_format_or_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format must be one of PNG, JPEG, WEBP, not bmp"):
        save_image(flat((0, 0, 0)), tmp_path / "picture", format="bmp")
    with pytest.raises(ValueError, match="at least one picture"):
        save_image_grid([], tmp_path / "grid.png")
    with pytest.raises(ValueError, match="one size"):
        save_image_grid([flat((0, 0, 0), 4), flat((0, 0, 0), 5)], tmp_path / "grid.png")
    with pytest.raises(ValueError, match="nrow must be"):
        save_image_grid([flat((0, 0, 0))], tmp_path / "grid.png", nrow=0)
