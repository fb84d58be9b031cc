"""Tensors as files: pictures, depth maps and the turntable's animations."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
from PIL import Image
from torch import Tensor

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}
DEPTH_UNIT = 1e-4  # of the world, a step of the 16 bits
FRAMES_A_SECOND = 15
ENCODERS = ("libx264", "libopenh264", "mpeg4")


def encode_picture(picture: Tensor, output_format: str) -> bytes:
    """[3, H, W] in [-1, 1] → PNG, JPEG (quality 95) or WebP (lossless)."""
    out = io.BytesIO()
    image = Image.fromarray(_bytes(picture))
    if output_format == "png":
        image.save(out, "PNG", compress_level=1)
    elif output_format == "jpeg":
        image.save(out, "JPEG", quality=95)
    else:
        image.save(out, "WEBP", lossless=True, method=2)
    return out.getvalue()


def encode_depth(depth: Tensor) -> bytes:
    """[H, W] in world units along the ray (inf where nothing is) → a 16-bit PNG in steps of 1/10,000, 0 for nothing."""
    steps = np.nan_to_num(depth.float().cpu().numpy() / DEPTH_UNIT, posinf=0.0)
    out = io.BytesIO()
    Image.fromarray(steps.round().clip(0, 65535).astype(np.uint16)).save(out, "PNG", compress_level=6)
    return out.getvalue()


def encode_webp(frames: Sequence[Tensor]) -> bytes:
    """Frames [3, H, W] → an animated WebP that repeats for ever."""
    images = [Image.fromarray(_bytes(frame)) for frame in frames]
    out = io.BytesIO()
    duration = round(1000 / FRAMES_A_SECOND)
    options = {"save_all": True, "append_images": images[1:], "duration": duration, "loop": 0}
    images[0].save(out, "WEBP", quality=85, method=2, **options)
    return out.getvalue()


def mp4_encoder() -> str | None:
    """The video encoder that this machine has, if any."""
    return next((name for name in ENCODERS if name in av.codecs_available), None)


def encode_mp4(frames: Sequence[Tensor], encoder: str) -> bytes:
    """Frames [3, H, W] of an even side → MP4."""
    out = io.BytesIO()
    height, width = frames[0].shape[-2:]
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=FRAMES_A_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_bytes(frame), format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def _bytes(picture: Tensor) -> np.ndarray:
    scaled = ((picture.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy())
