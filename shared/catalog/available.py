"""Models worth having, by hand: what each is for, where it is, how large, and under which licence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """One of them. What is not `usable` here has `instead`, which says why and what to take."""

    name: str
    family: str
    task: str
    source: str
    repository: str
    revision: str | None
    licence: str
    size_bytes: int
    parameters: int | None
    description: str
    tags: tuple[str, ...]
    usable: bool = True
    instead: str | None = None
    max_text: int | None = None
    recommended: tuple[str, ...] = ()


AVAILABLE: tuple[AvailableModel, ...] = ()
