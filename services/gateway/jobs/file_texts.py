"""What a text in a file's field may be: base64, a data URI, an http(s) address, `upload:<id>`, or `job:<id>/<name>`."""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection
from pathlib import PurePosixPath
from urllib.parse import unquote
from uuid import UUID

from services.gateway.jobs.forms import file_too_large
from shared.egress.errors import BadUrl
from shared.egress.urls import parse_url
from shared.errors import ValidationFailed
from shared.family import FileField, FileInput
from shared.ids import parse_id

ADDRESS = re.compile("https?://", re.IGNORECASE)
DATA = re.compile("data:[^,]{0,200};base64,", re.IGNORECASE)
JOB, UPLOAD = "job:", "upload:"
STORED = (JOB, UPLOAD)  # what begins so lies in the storage already
NOT_FOUND = {
    JOB: "no completed job of yours has this file",
    UPLOAD: "you have no completed upload with this id",
}


def read_text(field: str, text: str, rule: FileField, ports: Collection[int]) -> bytes | FileInput:
    """The file's bytes, or where it comes from; ValidationFailed or PayloadTooLarge names the field."""
    if text.startswith(UPLOAD):
        return FileInput(name=field, source=text)
    if text.startswith(JOB):
        return FileInput(name=public_name(text, field), source=text)
    if ADDRESS.match(text):
        try:
            path = parse_url(text, ports).path
        except BadUrl as error:
            raise ValidationFailed(f"Invalid {field}: {error}", field=field) from None
        return FileInput(name=public_name(unquote(path), field), source=text)
    start = found.end() if (found := DATA.match(text)) else 0
    encoded = "".join(text[start:].split())  # base64 is often broken into lines
    if len(encoded) > (rule.max_bytes + 2) // 3 * 4:
        raise file_too_large(field, rule.max_bytes)
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        kinds = "base64, a data URI with base64, an http(s) address, upload:<id> nor job:<id>/<name>"
        raise ValidationFailed(f"Invalid {field}: it is neither {kinds}.", field=field) from None


def not_found(field: str, source: str) -> ValidationFailed:
    """Unknown, foreign, unfinished and forgotten files are told alike."""
    reason = NOT_FOUND[UPLOAD if source.startswith(UPLOAD) else JOB]
    return ValidationFailed(f"Invalid {field}: {reason}.", field=field)


def parse_reference(text: str) -> tuple[UUID, str] | None:
    """The job and the artifact's name that `job:<id>/<name>` means, or None."""
    job_id, _, name = text.removeprefix(JOB).partition("/")
    parsed = parse_id(job_id)
    return (parsed, name) if parsed and name else None


def public_name(sent: str, field: str) -> str:
    """The last part of a name that a client sent, as it may be shown; the field's name if nothing is left of it."""
    name = PurePosixPath(sent.replace("\\", "/")).name[:200]
    return "".join(letter for letter in name if letter.isprintable()) or field
