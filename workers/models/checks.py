"""What a request for a model must be as a whole, and what this server's settings allow: refused before it is a job."""

from __future__ import annotations

from shared.catalog.tasks import TEXT_TO_SPEECH
from shared.egress.errors import BadUrl
from shared.egress.urls import parse_url
from shared.errors import Unavailable, ValidationFailed
from shared.settings import get_settings
from workers.models import rules
from workers.models.inputs import DownloadInput, ImportInput

OFFLINE = "This server is set to stay offline (ATELIER_HUB_OFFLINE): it downloads no models. POST /models/import can."
FOR_REPOSITORIES = ("auto_convert_tts", "include_vocoder", "vocoder_model", "revision", "experimental")


def checked_download(request: DownloadInput) -> DownloadInput:
    """The request itself; raises ValidationFailed that names the field, Unavailable where the server is offline.

    The worker asks its own settings again: they may be stricter than the gateway's.
    """
    if request.source == "url":
        _check_address(request)
    else:
        _check_repositories(request)
    if get_settings().hub_offline:
        raise Unavailable(OFFLINE)
    return request


def checked_import(request: ImportInput) -> ImportInput:
    """The request itself; raises Unavailable where nothing may be imported."""
    if get_settings().import_dir is None:
        raise Unavailable("Nothing can be imported: ATELIER_IMPORT_DIR names no folder.")
    return request


def _check_address(request: DownloadInput) -> None:
    for field in FOR_REPOSITORIES:
        if getattr(request, field):
            raise _refused(field, "is for repositories: it does nothing for a single file.")
    try:
        parse_url(request.model_id, get_settings().egress_ports)
    except BadUrl as error:
        raise _refused("model_id", str(error)) from None
    if request.task not in (rules.LORA, rules.ONNX):
        raise _refused("task", rules.SINGLE_FILES)
    if problem := rules.file_problem(request.model_id, request.task):
        raise _refused("model_id", problem)


def _check_repositories(request: DownloadInput) -> None:
    if request.sha256:
        raise _refused("sha256", "is for a single file; a repository's files have their hashes there.")
    speaks = request.source == "tts_auto" or request.auto_convert_tts
    if speaks and request.task not in (None, TEXT_TO_SPEECH):
        raise _refused("task", f"must be {TEXT_TO_SPEECH} with auto_convert_tts and with the source tts_auto.")
    if request.include_vocoder and not speaks and request.task != TEXT_TO_SPEECH:
        raise _refused("include_vocoder", f"is for the task {TEXT_TO_SPEECH}.")
    if request.vocoder_model and not (request.include_vocoder or request.auto_convert_tts):
        raise _refused("vocoder_model", "is what include_vocoder fetches; set that as well.")
    for field in ("model_id", "vocoder_model"):
        if repository := getattr(request, field):
            problem = rules.repository_problem(repository) or rules.owner_problem(
                repository, experimental=request.experimental, settings=get_settings()
            )
            if problem:
                raise _refused(field, problem)


def _refused(field: str, problem: str) -> ValidationFailed:
    return ValidationFailed(f"Invalid {field}: {problem}", field=field)
