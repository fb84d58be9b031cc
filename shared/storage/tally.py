"""What is known of an object's bytes once they have passed by."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator

from shared.failpoints import failpoint
from shared.storage.interface import StoredObject


class Tally:
    """Counts and hashes chunks on their way into a store."""

    def __init__(self, key: str) -> None:
        self._key, self._size, self._crc32, self._digest = key, 0, 0, hashlib.sha256()

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks."""
        for chunk in chunks:
            self._size += len(chunk)
            self._crc32 = zlib.crc32(chunk, self._crc32)
            self._digest.update(chunk)
            yield chunk
            failpoint("W5")

    def stored(self) -> StoredObject:
        """The object that the chunks so far make."""
        return StoredObject(self._key, self._size, self._digest.hexdigest(), self._crc32)
