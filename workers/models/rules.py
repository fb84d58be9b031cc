"""Which names, repositories and addresses may be asked for. The gateway refuses early by them, the worker for good."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from shared.catalog.names import name_problem
from shared.catalog.tasks import FAMILIES, TEXT_TO_SPEECH
from shared.settings import Settings

LORA, ONNX = "lora", "onnx"
HERE = {"avatar", "image-to-3d", "tabular-regression"}  # only in layouts of our own, which nobody publishes
TASKS = {task: family for task, family in FAMILIES.items() if task not in HERE} | {LORA: "image"}
"""What a downloaded model can be for, and the family that serves it."""

# What the hub calls otherwise than we do.
SYNONYMS = {"text-to-audio": TEXT_TO_SPEECH, "sentence-similarity": "feature-extraction"}
DEFAULT_TASK = "text-generation"
VOCODER = "microsoft/speecht5_hifigan"

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,4}")
COMMIT = re.compile(r"[0-9a-f]{40}")
SINGLE_FILES = (
    "A single file is of use as a LoRA (a .safetensors file, task lora) or to onnxruntime (an .onnx file, task onnx); "
    "any other model is a folder."
)
HOUSE = "house-"  # how the models that ship with Atelier are called


def naming_problem(name: str) -> str | None:
    """Why no downloaded model may have this name; None if one may."""
    if name.lower().startswith(HOUSE) or name.lower() == "example":
        return f"{name} is, or could be, a model that ships with Atelier."
    return name_problem(name)


def repository_problem(repository: str) -> str | None:
    """What is wrong with its shape; None if nothing is."""
    if REPOSITORY.fullmatch(repository) and ".." not in repository and "--" not in repository:
        return None
    return "A repository is OWNER/NAME, of letters, digits, dots, dashes and underscores."


def revision_problem(revision: str) -> str | None:
    """What is wrong with its shape; None if nothing is."""
    if REVISION.fullmatch(revision) and ".." not in revision:
        return None
    return "A revision is a branch, a tag or a commit."


def owner_problem(repository: str, *, experimental: bool, settings: Settings) -> str | None:
    """Why nothing of this owner may be downloaded; None if it may."""
    owner = repository.partition("/")[0]
    if "*" in settings.hub_owners or owner in settings.hub_owners:
        return None
    if experimental and settings.hub_experimental:
        return None
    if experimental:
        return f"{owner} is not among ATELIER_HUB_OWNERS, and ATELIER_HUB_EXPERIMENTAL is off."
    return f"{owner} is not among ATELIER_HUB_OWNERS, the owners whose models may be downloaded here."


def file_problem(address: str, task: str) -> str | None:
    """Why a single file of this address or path serves no such task; None if it does."""
    suffix = PurePosixPath(urlsplit(address).path).suffix.lower()
    return None if (task, suffix) in {(LORA, ".safetensors"), (ONNX, ".onnx")} else SINGLE_FILES
