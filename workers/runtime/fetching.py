"""Files at addresses: fetched once by the guarded client, and kept, so that every attempt sees the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

from shared.egress.client import Egress
from shared.egress.errors import EgressError
from shared.family import FileField
from shared.signatures import HEAD, media_type_of
from shared.storage.interface import ObjectExists, ObjectMissing, Storage
from workers.runtime.runner import InputRejected, RunnerError

BUSY = {408, 425, 429}


class FetchRefused(InputRejected):
    """The address gives no such file, or may not be asked; the text does not say why a host failed."""

    code = "fetch_refused"


class FetchFailed(RunnerError):
    """The address did not answer in time, or was broken or busy: the next attempt may find it well."""

    code = "fetch_failed"
    tries = 2


def keep_address(storage: Storage, egress: Egress, key: str, field: str, address: str, rule: FileField) -> None:
    """Put what lies at the address into the storage under this key, unless an earlier attempt has done so.

    Raises FetchRefused, FetchFailed, InputRejected (not a file of the field's media types) and StorageError.
    """
    with suppress(ObjectMissing):
        storage.size(key)
        return
    try:
        with egress.get(address, rule.max_bytes) as answer:
            _check_status(field, answer.status)
            head = _head(answer.chunks)
            media_type = media_type_of(head[:HEAD], rule.media_types)
            if media_type is None:
                raise InputRejected(f"{field}: the file is none of {', '.join(rule.media_types)}.")
            with suppress(ObjectExists):  # an attempt that lost its lease was as quick
                storage.put(key, chain([head], answer.chunks), media_type)
    except EgressError as error:
        raise (FetchFailed if error.transient else FetchRefused)(f"{field}: {error}") from error


def _check_status(field: str, status: int) -> None:
    if status == 200:
        return
    kind = FetchFailed if status >= 500 or status in BUSY else FetchRefused
    raise kind(f"{field}: The address answered with status {status}.")


def _head(chunks: Iterator[bytes]) -> bytes:
    """The first bytes, enough of them to tell what they are; fewer if there are no more."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD:
            break
    return head
