"""A form with one file, which goes on to its receiver while the form is read: no temporary file, constant memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from services.gateway.jobs.file_texts import public_name
from services.gateway.jobs.forms import WholeForm
from shared.errors import ValidationFailed

FIELD = "file"
MAX_TEXT = 1000  # bytes; no text is taken, but one is read so that it can be named
FORM_ROOM = 10_000  # bytes of a form that are not its file's
Write = Callable[[bytes], Awaitable[None]]


class _Through(UploadFile):
    """Hands on what the parser writes."""

    def __init__(self, filename: str | None, write: Write) -> None:
        self.filename, self._write = filename, write

    async def write(self, data: bytes) -> None:
        await self._write(data)

    async def seek(self, offset: int) -> None:
        """It is never read again."""

    async def close(self) -> None:
        """Nothing is open."""


class _Parser(WholeForm):
    def __init__(self, request: Request, stream: AsyncGenerator[bytes, None], write: Write) -> None:
        super().__init__(request.headers, stream, max_files=1, max_fields=1, max_part_size=MAX_TEXT)
        self._write = write

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        if part.field_name != FIELD:
            name = part.field_name[:100]
            raise ValidationFailed(f"Invalid {name}: Unknown field.", field=name)
        if part.file is None:
            raise ValidationFailed(f"Invalid {FIELD}: a file is expected, not text.", field=FIELD)
        part.file.file.close()
        part.file = _Through(part.file.filename, self._write)


async def pass_file(request: Request, write: Write) -> str | None:
    """Write the bytes of the form's file; its name, if it has one. Raises ValidationFailed, and what `write` raises."""
    try:
        data: FormData = await _Parser(request, request.stream(), write).parse()
    except MultiPartException as error:
        raise ValidationFailed(f"The form cannot be read: {error.message}", field="body") from None
    except UnicodeError:
        raise ValidationFailed("The form cannot be read: Its text is not UTF-8.", field="body") from None
    file: Any = data.get(FIELD)
    if file is None:
        raise ValidationFailed("Invalid file: This field is required.", field=FIELD)
    return public_name(file.filename or "", "") or None
