"""Pictures as tensors, as PIL images and as files.

A picture is [3, H, W], RGB, in [-1, 1], which is the range of the networks; [1, 3, H, W] is taken for the same. Values
beyond the range are clamped: the super-resolution overshoots a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from PIL import Image

OPTIONS: dict[str, dict[str, int | bool]] = {"PNG": {}, "JPEG": {"quality": 95}, "WEBP": {"quality": 95}}
SMOOTH = ("bilinear", "bicubic")  # the modes that can average over what they leave out
MODES = ("nearest", "nearest-exact", *SMOOTH, "area")


def save_image(tensor: Tensor, path: str | Path, normalize: bool = True, format: str = "PNG") -> None:
    """Write one picture.

    Args:
        tensor: [3, H, W] or [1, 3, H, W]; in [-1, 1], or without `normalize` in [0, 1].
        path: the file; its suffix is not looked at. format: PNG, JPEG (or JPG) or WEBP, in any case.

    Raises:
        ValueError: another shape or format, or values that are not finite.
    """
    kind = {"JPG": "JPEG"}.get(format.upper(), format.upper())
    if kind not in OPTIONS:
        raise ValueError(f"format must be one of {', '.join(OPTIONS)}, not {format}")
    _pil(tensor, normalize).save(path, kind, **OPTIONS[kind])


def save_image_grid(tensors: Sequence[Tensor], path: str | Path, nrow: int = 8, padding: int = 2) -> None:
    """Write pictures of one size as one, row by row on white; the path's suffix names the format (none: PNG).

    Args:
        tensors: each [3, H, W] or [1, 3, H, W], in [-1, 1]. nrow: pictures a row at most.
        padding: pixels between the pictures and around them all.

    Raises:
        ValueError: no pictures, pictures of several sizes, or what `save_image` refuses.
    """
    if nrow < 1 or padding < 0:
        raise ValueError("nrow must be at least 1 and padding must not be negative")
    pictures = [_picture(tensor).detach().float().cpu() for tensor in tensors]
    if not pictures:
        raise ValueError("a grid needs at least one picture")
    if len(shapes := {tuple(picture.shape) for picture in pictures}) > 1:
        raise ValueError(f"the pictures of a grid must have one size, not {sorted(shapes)}")
    columns, (height, width) = min(nrow, len(pictures)), (side + padding for side in pictures[0].shape[1:])
    rows = -(-len(pictures) // columns)
    page = torch.ones(3, padding + rows * height, padding + columns * width)
    for n, picture in enumerate(pictures):
        top, left = padding + n // columns * height, padding + n % columns * width
        page[:, top : top + height - padding, left : left + width - padding] = picture
    save_image(page, path, format=Path(path).suffix[1:] or "PNG")


def tensor_to_pil(tensor: Tensor) -> Image.Image:
    """[3, H, W] or [1, 3, H, W] in [-1, 1] → an RGB image. ValueError as for `save_image`."""
    return _pil(tensor, normalize=True)


def pil_to_tensor(image: Image.Image, device: torch.device | str | None = None) -> Tensor:
    """An image → [3, H, W] in [-1, 1]; what is transparent shows white, as the renderer's background.

    Of any mode whose numbers have 8 bits, or 16.
    """
    from PIL import Image

    if image.mode.startswith("I;16"):  # Pillow would cut these off at 255
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(image.height, image.width, 3)
    return pixels.to(device).permute(2, 0, 1).float() / 127.5 - 1


def resize_tensor(tensor: Tensor, size: int | Sequence[int], mode: str = "bilinear") -> Tensor:
    """Bring pictures to a size; bilinear and bicubic average (antialias) where they shrink.

    Args:
        tensor: [C, H, W] or [B, C, H, W], floating point. size: of both sides, or (height, width), in pixels.
        mode: nearest, nearest-exact, bilinear, bicubic or area. Bicubic overshoots the range.

    Returns:
        The same number of dimensions.

    Raises:
        ValueError: another shape, size or mode, or values that are not finite.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode}")
    if tensor.ndim not in (3, 4) or 0 in tensor.shape:
        raise ValueError(f"pictures must be [C, H, W] or [B, C, H, W], not {list(tensor.shape)}")
    if height < 1 or width < 1:
        raise ValueError("size must be at least 1")
    _check_values(tensor)
    batch = tensor if tensor.ndim == 4 else tensor[None]
    smaller = height < batch.shape[2] or width < batch.shape[3]
    resized = F.interpolate(batch, (height, width), mode=mode, antialias=smaller and mode in SMOOTH)
    return resized if tensor.ndim == 4 else resized[0]


def _picture(tensor: Tensor) -> Tensor:
    picture = tensor[0] if tensor.ndim == 4 and tensor.shape[0] == 1 else tensor
    if picture.ndim != 3 or picture.shape[0] != 3 or 0 in picture.shape:
        raise ValueError(f"a picture must be [3, H, W] or [1, 3, H, W], not {list(tensor.shape)}")
    _check_values(picture)
    return picture


def _check_values(tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise ValueError(f"pictures must be floating point, not {tensor.dtype}")
    if not torch.isfinite(tensor).all():
        raise ValueError("the values must be finite")


def _pil(tensor: Tensor, normalize: bool) -> Image.Image:
    from PIL import Image

    picture = _picture(tensor).detach().float().cpu()
    share = (picture + 1) / 2 if normalize else picture
    return Image.fromarray((share.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
