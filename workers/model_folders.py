"""Describes what lies on the disk as models: files, sizes, hashes, parameters. No torch: headers are JSON.

A family's `discover` calls `describe` for each of its models. It is cheap enough for every few seconds: a file is read
again only when its size or time has changed, and hashes are computed by a thread that only the worker's parent starts.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from shared.family import ModelCard, ModelFile
from shared.logging import get_logger

log = get_logger(__name__)

SOURCE_FILE = "atelier-source.json"  # whoever downloaded a folder left there what it is
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}  # of what counts as a parameter; integers are positions, masks and counters

Key = tuple[str, int, int]  # path, size, time of change (ns): a file that has not changed


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a safetensors file: their bytes, and how many numbers there are of each dtype."""

    size: int
    numbers: Mapping[str, int]


def describe(
    kind: str,
    name: str,
    path: Path,
    *,
    task: str | None = None,
    title: str | None = None,
    source: str | None = None,
    licence: str | None = None,
    weights: Iterable[Path] | None = None,
    details: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ModelCard:
    """The card of the model or adapter at `path`, a folder or one file.

    What is given wins over what an atelier-source.json in the folder says. `weights` are the files that the runner
    loads, if that is not every safetensors file there.
    """
    told = _told(path)
    loaded = [_weights(file_key(file)) for file in (_safetensors(path) if weights is None else weights)]
    tensors = [found for found in loaded if found is not None]
    numbers: Counter[str] = sum((Counter(found.numbers) for found in tensors), Counter())
    return ModelCard(
        kind=kind,
        name=name,
        title=title or name,
        details=dict(details or {}) | ({"vocoder": told["vocoder"]} if told.get("vocoder") else {}),
        task=task or told.get("task"),
        source=source or told.get("source") or "folder",
        repository=told.get("repository"),
        revision=told.get("revision"),
        files=tuple(_files(path, told)),
        licence=licence or told.get("licence"),
        parameters=sum(numbers.values()) or None,
        dtype=DTYPES[max(numbers, key=lambda dtype: numbers[dtype])] if numbers else None,
        memory_bytes=sum(found.size for found in tensors) or None,
        settings=dict(settings or {}),
    )


class Hashes:
    """SHA-256 of files, computed once for as long as a file does not change."""

    def __init__(self) -> None:
        self._known: dict[Key, str] = {}
        self._wanted: dict[Key, None] = {}
        self._thread: threading.Thread | None = None

    def get(self, key: Key) -> str | None:
        """The hash in hex if it is known; else it is noted as wanted."""
        known = self._known.get(key)
        if known is None:
            self._wanted[key] = None
        return known

    def compute(self) -> None:
        """Hash everything that is wanted."""
        while self._wanted:
            key = next(iter(self._wanted))
            try:
                with Path(key[0]).open("rb") as file:
                    self._known[key] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                log.warning("cannot hash a model's file", file=key[0], error=str(error))
            del self._wanted[key]

    def compute_in_background(self) -> None:
        """The same without waiting; gigabytes take minutes."""
        if self._wanted and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self.compute, name="hashes", daemon=True)
            self._thread.start()


HASHES = Hashes()


def json_object(path: Path) -> dict[str, Any] | None:
    """The object in this file; None if there is none. One broken folder must not hide the others."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@lru_cache(maxsize=1000)
def tell_skipped(folder: Path, reason: str) -> None:
    """Once a folder and reason: the disk is looked at every few seconds."""
    log.warning("model folder skipped", folder=str(folder), reason=reason)


def file_key(file: Path) -> Key:
    """What changes with the file; raises OSError."""
    stat = file.stat()
    return str(file), stat.st_size, stat.st_mtime_ns


def _files(path: Path, told: Mapping[str, Any]) -> Iterator[ModelFile]:
    """What is there by name. A file of the told size has the told hash: whoever wrote that had verified it."""
    hashes = {(entry["name"], entry["size"]): entry["sha256"] for entry in told.get("files", [])}
    for file in [path] if path.is_file() else _visible(path):
        key, name = file_key(file), file.name if file == path else file.relative_to(path).as_posix()
        yield ModelFile(name, key[1], hashes.get((name, key[1])) or HASHES.get(key))


def _visible(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.is_file() and file.name != SOURCE_FILE)
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _safetensors(path: Path) -> list[Path]:
    files = [path] if path.is_file() else _visible(path)
    return [file for file in files if file.suffix == ".safetensors"]


def _told(path: Path) -> Mapping[str, Any]:
    """What atelier-source.json says; nothing if there is none that can be read."""
    source = path / SOURCE_FILE
    return _source(file_key(source)) if source.is_file() else {}


@lru_cache(maxsize=1000)
def _source(key: Key) -> Mapping[str, Any]:
    try:
        told = json.loads(Path(key[0]).read_text())
        {(entry["name"], entry["size"]): entry["sha256"] for entry in told.get("files", [])}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        log.warning("unreadable, so the folder speaks for itself", file=key[0])
        return {}
    return dict(told)


@lru_cache(maxsize=10_000)
def _weights(key: Key) -> Weights | None:
    """The header's sums; None if it is none. Whether the file loads is found out by loading it."""
    try:
        header = _header(Path(key[0]), key[1])
        numbers: Counter[str] = Counter()
        size = 0
        for name, tensor in header.items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                size += end - start
                if tensor["dtype"] in DTYPES:
                    numbers[tensor["dtype"]] += math.prod(tensor["shape"])
    except (OSError, ValueError, AttributeError, TypeError, KeyError, struct.error):
        return None
    return Weights(size, numbers)


def _header(file: Path, size: int) -> dict[str, Any]:
    """The JSON object in front of the tensors, behind its own length (64 bits, little endian)."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(LONGEST_HEADER, size):
            raise ValueError("no safetensors header")
        header: dict[str, Any] = json.loads(stream.read(length))
    return header
