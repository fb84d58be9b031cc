"""The headers of tus 1.0 (https://tus.io/protocols/resumable-upload): what clients say, and what they are told.

Supported besides the core are creation (also with a length that is said later, or with the first bytes), expiration,
checksum and termination. A client that knows nothing of tus may leave `Tus-Resumable` out.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from email.utils import format_datetime
from typing import Any

from starlette.requests import Request

from services.gateway.jobs.file_texts import public_name
from shared.errors import PreconditionFailed, ValidationFailed
from shared.uploads.queries import UploadView

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-defer-length,creation-with-upload,expiration,checksum,termination"
OFFSET_STREAM = "application/offset+octet-stream"
ALGORITHMS = ("sha1", "sha256")
NUMBER = re.compile(r"[0-9]{1,18}")
KEY = re.compile(r"[!-+\--~]{1,100}")  # visible ASCII without the comma
MAX_METADATA = 4096  # characters


async def speaks_tus(request: Request) -> None:
    """For every route of uploads: all answers name the version, and a client with another one is told so."""
    request.scope["answer_headers"]["Tus-Resumable"] = VERSION
    if request.headers.get("tus-resumable", VERSION) != VERSION:
        raise PreconditionFailed(f"Tus-Resumable must be {VERSION}.", headers={"Tus-Version": VERSION})


def capabilities(max_size: int) -> dict[str, str]:
    """The headers of an answer to OPTIONS."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(max_size),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }


def progress_headers(upload: UploadView) -> dict[str, str]:
    """How far the upload is, and until when it may go on."""
    headers = {"Upload-Offset": str(upload.received)}
    if not upload.complete:
        headers["Upload-Expires"] = format_datetime(upload.expires_at, usegmt=True)
    return headers


def described_headers(upload: UploadView) -> dict[str, str]:
    """The same with all that was said of the file."""
    length = {"Upload-Defer-Length": "1"} if upload.length is None else {"Upload-Length": str(upload.length)}
    metadata = {"Upload-Metadata": upload.metadata} if upload.metadata else {}
    return progress_headers(upload) | length | metadata


def number(request: Request, name: str) -> int | None:
    """A header that is a number of bytes; None if it is not there."""
    text = request.headers.get(name)
    if text is None:
        return None
    if not NUMBER.fullmatch(text):
        raise ValidationFailed(f"{name} must be a number of bytes.", field=name)
    return int(text)


def wanted_length(request: Request) -> int | None:
    """The length that a creation says, or None if it is to be said later; ValidationFailed if it says neither."""
    length, deferred = number(request, "Upload-Length"), request.headers.get("upload-defer-length")
    if deferred not in (None, "1"):
        raise ValidationFailed("Upload-Defer-Length must be 1.", field="Upload-Defer-Length")
    if (length is None) == (deferred is None):
        raise ValidationFailed("Either Upload-Length or Upload-Defer-Length is expected.", field="Upload-Length")
    return length


def read_metadata(request: Request) -> tuple[str | None, str | None]:
    """The metadata as it may be repeated, and the file's name from its `filename`."""
    text = request.headers.get("upload-metadata", "").strip()
    if not text:
        return None, None
    if len(text) > MAX_METADATA:
        raise ValidationFailed(f"Upload-Metadata is longer than {MAX_METADATA} characters.", field="Upload-Metadata")
    pairs: dict[str, str] = {}
    for pair in text.split(","):
        key, _, value = pair.strip().partition(" ")
        if not KEY.fullmatch(key) or key in pairs or not _is_base64(value.strip()):
            raise _bad_metadata()
        pairs[key] = value.strip()
    name = binascii.a2b_base64(pairs.get("filename", "")).decode(errors="replace")
    return ",".join(f"{key} {value}".rstrip() for key, value in pairs.items()), public_name(name, "") or None


def _is_base64(text: str) -> bool:
    try:
        binascii.a2b_base64(text, strict_mode=bool(text))
    except ValueError:
        return False
    return True


def _bad_metadata() -> ValidationFailed:
    expected = "pairs of a key and its value in base64, separated by commas, each key once"
    return ValidationFailed(f"Upload-Metadata must be {expected}.", field="Upload-Metadata")


class Checksum:
    """The `Upload-Checksum` of one request's body."""

    def __init__(self, algorithm: str, expected: bytes) -> None:
        self._digest, self._expected = hashlib.new(algorithm, usedforsecurity=False), expected

    def update(self, data: bytes | bytearray) -> None:
        self._digest.update(data)

    def matches(self) -> bool:
        return hmac.compare_digest(self._digest.digest(), self._expected)


def read_checksum(request: Request) -> Checksum | None:
    """What the body must match, if the client says so."""
    text = request.headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.partition(" ")
    if algorithm not in ALGORITHMS:
        raise ValidationFailed(f"Upload-Checksum takes {' and '.join(ALGORITHMS)}.", field="Upload-Checksum")
    try:
        return Checksum(algorithm, binascii.a2b_base64(value, strict_mode=True))
    except ValueError:
        raise ValidationFailed("Upload-Checksum must end in base64.", field="Upload-Checksum") from None


def has_body(request: Request) -> bool:
    """Whether the request brings bytes along."""
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


HEADERS: dict[str, dict[str, Any]] = {
    "Upload-Length": {"description": "The whole file's size in bytes.", "schema": {"type": "integer", "minimum": 0}},
    "Upload-Defer-Length": {"description": "1 while the size is not known.", "schema": {"enum": ["1"]}},
    "Upload-Offset": {
        "description": "How many bytes there are: where the next ones begin.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Upload-Metadata": {
        "description": "`filename` and anything else, the values in base64.",
        "schema": {"type": "string", "examples": ["filename d29ybGQud2F2"]},
    },
    "Upload-Checksum": {
        "description": f"{' or '.join(ALGORITHMS)}, a space, and the body's checksum in base64.",
        "schema": {"type": "string", "examples": ["sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="]},
    },
    "Tus-Resumable": {"description": "The protocol's version; may be left out.", "schema": {"enum": [VERSION]}},
}


def parameters(*names: str) -> list[dict[str, Any]]:
    """OpenAPI parameters for these request headers."""
    return [{"name": name, "in": "header", "required": False, **HEADERS[name]} for name in (*names, "Tus-Resumable")]


def answers_with(*names: str) -> dict[str, Any]:
    """OpenAPI response headers."""
    return {name: HEADERS[name] for name in names}
