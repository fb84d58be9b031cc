"""`python -m workers.runtime.decode_picture PATH SIDE`: a stranger's picture → plain RGB on stdout, in a process of its
own that may use little memory and time, so that a hostile file harms nothing but itself.

Stdout gets width and height as two 32-bit integers and then the pixels. The exit status is REFUSED with one line on
stderr that the client may see, or anything else if the file cannot be read.
"""

from __future__ import annotations

import resource
import struct
import sys

MAX_PIXELS = 25_000_000
MEMORY, SECONDS = 1 << 30, 10  # bytes, of processor time
FORMATS = ("PNG", "JPEG", "WEBP")
REFUSED = 3


def main(path: str, side: int) -> int:
    """0, or REFUSED; raises what Pillow raises."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # ours is stricter, and says so
    with Image.open(path, formats=FORMATS) as image:  # reads the header only
        if image.width * image.height > MAX_PIXELS:
            return _refuse(f"it has more than {MAX_PIXELS} pixels.")
        if getattr(image, "n_frames", 1) != 1:
            return _refuse("it is an animation.")
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail((side, side))
        clear = upright.convert("RGBA")
        plain = Image.new("RGB", clear.size, "white")
        plain.paste(clear, mask=clear.getchannel("A"))
    sys.stdout.buffer.write(struct.pack("<II", *plain.size) + plain.tobytes())
    return 0


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
