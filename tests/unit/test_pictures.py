"""Pictures of strangers are decoded in a process of their own, upright, plain, and within limits."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.runtime import decode_picture
from workers.runtime.pictures import read_picture
from workers.runtime.runner import InputRejected


def saved(path: Path, image: Image.Image, kind: str, **options: object) -> Path:
    image.save(path, kind, **options)  # type: ignore[arg-type]
    return path


def png_of_zeros(width: int, height: int) -> bytes:
    """A PNG that says it has so many grey pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_read(tmp_path: Path, kind: str) -> None:
    image = Image.linear_gradient("L").convert("RGB").resize((64, 48))
    found = read_picture(saved(tmp_path / "p", image, kind), "picture", 1024)
    assert (found.mode, found.size) == ("RGB", (64, 48))
    assert np.abs(np.asarray(found, int) - np.asarray(image, int)).mean() < 4


def test_a_large_one_is_made_smaller(tmp_path: Path) -> None:
    assert read_picture(saved(tmp_path / "p", Image.new("RGB", (3000, 1500)), "PNG"), "picture", 512).size == (512, 256)


def test_transparency_is_white(tmp_path: Path) -> None:
    found = read_picture(saved(tmp_path / "p", Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG"), "picture", 64)
    assert found.getpixel((0, 0)) == (255, 255, 255)


def test_what_the_camera_noted_is_heeded_and_dropped(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (40, 20)), Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    exif[0x010E] = "at home"
    found = read_picture(saved(tmp_path / "p", image, "JPEG", exif=exif), "picture", 64)
    assert found.size == (20, 40)
    assert not found.getexif()


@pytest.mark.hostile("I")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (png_of_zeros(6000, 5000), "more than 25000000 pixels"),
        (png_of_zeros(2**31 - 1, 2**31 - 1), "picture"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 100, "cannot be read"),
        (png_of_zeros(5000, 4900)[:200], "cannot be read"),
        (b"", "cannot be read"),
        (b"GIF89a" + b"\0" * 50, "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "cannot be read"),
    ],
    ids=["too many pixels", "absurd size", "broken", "cut", "empty", "another format", "a program"],
)
def test_what_is_no_picture_of_ours_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(InputRejected, match=said) as caught:
        read_picture(tmp_path / "p", "picture", 64)
    assert str(caught.value).startswith("picture")


@pytest.mark.hostile("I")
def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    (tmp_path / "p").write_bytes(out.getvalue())
    with pytest.raises(InputRejected, match="animation"):
        read_picture(tmp_path / "p", "picture", 64)


@pytest.mark.hostile("I")
def test_a_greedy_decoder_dies_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a decoder that a file makes take memory without end harms the worker."""
    script = Path(decode_picture.__file__).read_text().replace("from PIL import Image, ImageOps", "bytearray(2 << 30)")
    package = tmp_path / "workers" / "runtime"
    package.mkdir(parents=True)
    (package / "decode_picture.py").write_text(script)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = saved(tmp_path / "p", Image.new("RGB", (8, 8)), "PNG")
    with pytest.raises(InputRejected, match="cannot be read"):
        read_picture(path, "picture", 64)
