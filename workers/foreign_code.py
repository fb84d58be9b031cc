"""What in a model's files would have a library run code that came with the model, or fetch some: one rule for all.

Downloads and imports ask it of every JSON file, catalogs of every folder: somebody may have put it there by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from workers.model_folders import Key, file_key

# Keys by which libraries were made to fetch and run a repository's own code, whatever their value is.
FORBIDDEN = frozenset(
    {
        *("auto_map", "trust_remote_code", "custom_pipeline", "custom_pipelines", "_attn_implementation_internal"),
        *("_experts_implementation_internal", "attn_implementation_internal"),
    }
)
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")  # a pipeline's part from elsewhere is code of its own
PIPELINE = "model_index.json"
# What libraries configure themselves by, in the folder and in its parts: a pipeline's networks, a voice's vocoder.
# A config.json may name another for a version of transformers, such as config.5.0.0.json.
CONFIGURATIONS = ("*config*.json", "*/*config*.json", PIPELINE)
MAX_JSON = 50_000_000  # bytes; tokenizers of large vocabularies have 30 MB
MAX_DEPTH = 100


class Untrusted(Exception):
    """Nothing may be loaded with this file; the text says which and why."""


def foreign_code(folder: Path) -> str | None:
    """Why this folder must not be loaded, or None; a file is read again only when its size or time has changed."""
    for file in sorted(file for pattern in CONFIGURATIONS for file in folder.glob(pattern)):
        name = file.relative_to(folder).as_posix()
        try:
            problem = _problem(file_key(file), name) if file.is_file() else None
        except OSError:
            problem = f"{name} cannot be read"
        if problem:
            return problem
    return None


def trusted_json(path: Path, name: str) -> Any:
    """What the file says; `name` is what it is called in its model.

    Raises Untrusted for a forbidden key at any depth, and for what cannot be searched for one.
    """
    if path.stat().st_size > MAX_JSON:
        raise Untrusted(f"{name} is larger than {MAX_JSON} bytes")
    try:
        value = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError):
        raise Untrusted(f"{name} is not JSON") from None
    for found in objects(value, name):
        if forbidden := FORBIDDEN & found.keys():
            raise Untrusted(f"{name} has the key {min(forbidden)}: it would run the model's own code")
    return value


def objects(value: Any, name: str) -> Iterator[dict[str, Any]]:
    """Every object in it, without recursion; raises Untrusted if it is nested too deeply."""
    waiting = [(value, 0)]
    while waiting:
        found, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise Untrusted(f"{name} is nested too deeply")
        if isinstance(found, dict):
            yield found
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        waiting += [(entry, depth + 1) for entry in inner if isinstance(entry, dict | list)]


def pipeline_parts(index: Mapping[str, Any]) -> list[str]:
    """The folders that a model_index.json names; raises Untrusted for a part that is not a library's."""
    folders = []
    for part, made_of in index.items():
        if part.startswith("_") or not isinstance(made_of, list):
            continue
        if len(made_of) != 2 or (made_of[0] is not None and made_of[0] not in LIBRARIES):
            raise Untrusted(f"{PIPELINE} makes {part} of code of its own")
        if made_of[0] is not None:  # [null, null] is a part that is left out
            folders.append(part)
    return folders


@lru_cache(maxsize=10_000)
def _problem(key: Key, name: str) -> str | None:
    """What is wrong with the file of this key."""
    try:
        value = trusted_json(Path(key[0]), name)
        if name == PIPELINE and isinstance(value, dict):
            pipeline_parts(value)
    except Untrusted as error:
        return str(error)
    return None
