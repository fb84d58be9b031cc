"""Forms written byte by byte, because the broken ones are what matters, and those that `toy.stamp` must refuse."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from services.gateway.jobs.forms import text_size
from tests.toys.family import MAX_PICTURE
from tests.toys.runner import content

BOUNDARY = "frontier"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
PNG = b"\x89PNG\r\n\x1a\n" + content(1, 500)  # the gateway knows pictures by how they begin; nobody here decodes them
WEBP = b"RIFF\x00\x01\x00\x00WEBPVP8 " + content(2, 500)
JPEG = b"\xff\xd8\xff\xe0" + content(3, 500)
SAYING = b'{"say": "seen"}'


def part(name: str, body: bytes, filename: str | None = None, media_type: str = "image/png") -> bytes:
    """One part, with the line of its boundary; a file if it has a filename."""
    disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
    lines = [f"--{BOUNDARY}", f"Content-Disposition: {disposition}"]
    if filename is not None:
        lines.append(f"Content-Type: {media_type}")
    return "\r\n".join([*lines, "", ""]).encode() + body + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def picture(body: bytes = PNG, filename: str = "picture.png", media_type: str = "image/png") -> bytes:
    return part("picture", body, filename, media_type)


def config(body: bytes = SAYING) -> bytes:
    return part("config", body)


def long_picture(size: int) -> bytes:
    return PNG + content(4, size - len(PNG))


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is not accepted: the `status`, and the `field` that the answer names."""

    body: bytes
    field: str | None
    status: int = 400
    content_type: str = MULTIPART


GOOD = form(picture(), config())
TOO_LONG = text_size(MAX_PICTURE) + 1_000_001
REFUSED = {
    "no file": Refused(form(config()), "picture"),
    "the file as hex": Refused(form(part("picture", PNG.hex().encode()), config()), "picture"),
    "an empty file": Refused(form(picture(b""), config()), "picture"),
    "a text that is no file": Refused(form(part("picture", b"a painting"), config()), "picture"),
    "an address of another kind": Refused(form(part("picture", b"ftp://example.com/a.png")), "picture"),
    "an address with a password": Refused(form(part("picture", b"http://u:p@example.com/a.png")), "picture"),
    "a text that says it is a picture": Refused(form(picture(b"Dear reader, I am no picture."), config()), "picture"),
    "a GIF": Refused(form(picture(b"GIF89a" + content(5, 500), "a.gif", "image/gif"), config()), "picture"),
    "a WAV, which begins as WEBP does": Refused(form(picture(b"RIFF\0\1\0\0WAVEfmt " + bytes(500))), "picture"),
    "half a signature": Refused(form(picture(PNG[:4]), config()), "picture"),
    "two files": Refused(form(picture(), picture(JPEG), config()), "picture"),
    "three files": Refused(form(picture(), picture(), picture()), "body"),
    "a file and a text of one name": Refused(form(picture(), part("picture", b"x")), "picture"),
    "an unknown file": Refused(form(picture(), part("extra", PNG, "extra.png")), "extra"),
    "an unknown text": Refused(form(picture(), config(), part("extra", b"x")), "extra"),
    "the file's field in the JSON too": Refused(form(picture(), config(b'{"picture": {}}')), "picture"),
    "config twice": Refused(form(picture(), config(), config()), "config"),
    "config as a file": Refused(form(picture(), part("config", SAYING, "config.json")), "config"),
    "config without a character": Refused(form(picture(), config(b"")), "config"),
    "config that is no JSON": Refused(form(picture(), config(b'{"say": ')), "config"),
    "config with NaN": Refused(form(picture(), config(b'{"step_seconds": NaN}')), "config"),
    "config that is no object": Refused(form(picture(), config(b"[1, 2]")), "config"),
    "config in Latin-1": Refused(form(picture(), config('{"say": "é"}'.encode("latin-1"))), "body"),
    "NUL in a text of config": Refused(form(picture(), config(b'{"say": "\\u0000"}')), "say"),
    "a value that the operation does not take": Refused(form(picture(), config(b'{"steps": -1}')), "steps"),
    "a key that the operation does not have": Refused(form(picture(), config(b'{"nope": 1}')), "nope"),
    "config beyond its limit": Refused(form(picture(), config(b'{"say": "%s"}' % (b"x" * 1_000_001))), "body"),
    "too large a file": Refused(form(picture(long_picture(MAX_PICTURE + 1)), config()), "picture", 413),
    "too large a form": Refused(form(picture(), part("x", bytes(TOO_LONG), "x"), part("y", b"")), None, 413),
    "too large a text": Refused(form(part("picture", b"A" * text_size(MAX_PICTURE) + b"A")), "picture", 413),
    "too much base64": Refused(form(part("picture", base64.b64encode(long_picture(MAX_PICTURE + 3)))), "picture", 413),
    "no boundary": Refused(GOOD, "body", content_type="multipart/form-data"),
    "another boundary": Refused(GOOD, "body", content_type="multipart/form-data; boundary=other"),
    "a boundary of 300 letters": Refused(GOOD, "body", content_type=f"multipart/form-data; boundary={'b' * 300}"),
    "an encoding that Python cannot decode": Refused(GOOD, "body", content_type=f"{MULTIPART}; charset=undefined"),
    "text in escapes": Refused(
        form(picture(), config(b'{"say": "\\ud800"}')), "say", content_type=f"{MULTIPART}; charset=unicode_escape"
    ),
    "nothing": Refused(b"", "body"),
    "no parts": Refused(form(), "picture"),
    "cut in the picture": Refused(GOOD[:300], "body"),
    "cut in config": Refused(form(picture(), config())[: -len(SAYING)], "body"),
    "cut before the last boundary": Refused(GOOD[: -len(form())], "body"),
    "cut in the last boundary": Refused(GOOD[:-4], "body"),
    "a part without a name": Refused(form(picture().replace(b' name="picture";', b"")), "body"),
    "a part without headers": Refused(form(b"--frontier\r\n\r\nx\r\n", picture()), "body"),
    "5,000 tiny fields": Refused(form(picture(), *[part(f"f{n}", b"x") for n in range(5000)]), "body"),
    "5,000 parts of one name": Refused(form(picture(), *[config(b"{}")] * 5000), "body"),
    "a name of 1,000 letters": Refused(form(picture(), part("n" * 1000, b"x")), "n" * 100),
    "a name of 100,000 letters": Refused(form(picture(), part("n" * 100_000, b"x")), "body"),
    "a hundred headers": Refused(
        form(picture(), config().replace(b"Content-", b"".join(b"X-%d: y\r\n" % n for n in range(100)) + b"Content-")),
        "body",
    ),
    "a form that is no multipart": Refused(b"say=seen", None, 415, "application/x-www-form-urlencoded"),
}
