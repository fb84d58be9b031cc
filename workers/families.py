"""The one registration point: every family, with the class that runs it.

A family is its folder and two lines here. The specs are imported everywhere (no torch in them); the runner's class is
named by a string, and imported only in a worker's child.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module

from shared.catalog.loading import VERB, load_operation
from shared.family import Family, Operation
from shared.settings import get_settings
from workers.avatar.spec import AVATAR
from workers.image.spec import IMAGE
from workers.models.spec import MODELS
from workers.predict.spec import PREDICT_FAMILY
from workers.speech.spec import SPEECH


@dataclass(frozen=True, slots=True)
class Registration:
    """A family and `module:Class` of its runner."""

    family: Family
    runner: str


BUILT_IN = (
    Registration(IMAGE, "workers.image.runner:ImageRunner"),
    Registration(AVATAR, "workers.avatar.runner:AvatarRunner"),
    Registration(SPEECH, "workers.speech.runner:SpeechRunner"),
    Registration(MODELS, "workers.models.runner:ModelsRunner"),
    Registration(PREDICT_FAMILY, "workers.predict.runner:PredictRunner"),
)


@lru_cache
def registrations() -> dict[str, Registration]:
    """Every family by name: the built-in ones and those of the modules named by ATELIER_EXTRA_FAMILIES."""
    known = list(BUILT_IN)
    for module in get_settings().extra_families:
        known += import_module(module).REGISTRATIONS
    return {registration.family.name: registration for registration in known}


def families() -> dict[str, Family]:
    """Every family that exists."""
    return {name: registration.family for name, registration in registrations().items()}


def served_families() -> dict[str, Family]:
    """The families that this worker serves: all, or those that ATELIER_FAMILIES names, without those after a dash."""
    asked, known = get_settings().families, families()
    left_out = {name[1:] for name in asked if name.startswith("-")}
    chosen = [name for name in asked if not name.startswith("-")]
    if unknown := ({*chosen} | left_out) - set(known):
        raise SystemExit(f"ATELIER_FAMILIES names no known family: {', '.join(sorted(unknown))}")
    return {name: known[name] for name in chosen or known if name not in left_out}


def find_operation(name: str) -> Operation:
    """The operation `family.verb`; KeyError if there is none. Every family has the platform's own `family.load`."""
    family, _, verb = name.partition(".")
    known = families()[family]
    return load_operation(family) if verb == VERB else known.operation(name)
