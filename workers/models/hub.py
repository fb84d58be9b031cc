"""What the hub says of a repository: its commit, its files with their sizes and hashes, its licence.

`huggingface_hub` asks and reads, over the guarded client. The files' bytes are fetched without it: its downloads cannot
be cancelled while a server is silent, follow redirects to anywhere, and keep their partial files to themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi, ModelInfo, constants, set_client_factory
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from shared.egress.client import MAX_REDIRECTS, Asking, Egress
from shared.egress.errors import EgressError
from shared.egress.transport import GuardedTransport
from shared.redaction import never_say
from shared.settings import Settings
from workers.models.faults import HubRefused, HubUnavailable
from workers.models.rules import COMMIT

# Its telemetry asks huggingface.co itself, whichever hub is meant, and tells what is installed here.
constants.HF_HUB_DISABLE_TELEMETRY = True

Answer = TypeVar("Answer")

SECONDS, SILENCE = 60.0, 15.0  # for one question; without a byte
MAX_ANSWER = 20_000_000  # bytes
BUSY = {408, 425, 429}
# Where a repository's own branch has pickles only, the hub's converter offers the same weights as safetensors.
CONVERTER, CONVERTED = "SFconvertbot", "Adding `safetensors` variant of this model"
# What reading an answer raises that is no hub's, whoever sent it.
NOT_THE_HUB = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
SHA256, SHA1 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository; `sha256` if it is kept in Git LFS, else `blob`, git's own hash of it."""

    size: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit, as the hub describes it. `kinds` are its tags and the type of its model."""

    name: str
    commit: str
    files: Mapping[str, RemoteFile]
    licence: str | None
    task: str | None
    kinds: frozenset[str]


class Hub:
    """The hub of the settings. `watch` is called several times a second while it is waited for."""

    def __init__(self, settings: Settings, egress: Egress, watch: Callable[[], None]) -> None:
        self.endpoint, self._egress = settings.hub_endpoint, egress
        self.token = settings.hub_token.get_secret_value() if settings.hub_token else None
        if self.token:
            never_say(self.token)
        self._asking = Asking(token=self.token, seconds=SECONDS, silence=SILENCE, watch=watch)
        transport = GuardedTransport(egress, MAX_ANSWER, self._asking)
        # Of the process, not of the HfApi: nothing else here talks to a hub.
        set_client_factory(
            lambda: httpx2.Client(
                transport=transport, follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=None, trust_env=False
            )
        )
        self._api = HfApi(endpoint=self.endpoint, token=self.token or False)

    def repository(self, name: str, revision: str | None) -> Repository:
        """The repository at this branch, tag or commit (None: main); raises HubRefused or HubUnavailable."""

        def ask() -> Repository:
            return _read(name, self._api.model_info(name, revision=revision or "main", files_metadata=True))

        return self._asked(name, ask)

    def converted(self, repository: Repository) -> Repository | None:
        """The hub's own conversion of exactly this commit to safetensors, if there is one."""
        reference = self._asked(repository.name, lambda: self._conversion(repository))
        return self.repository(repository.name, reference) if reference else None

    def document(self, repository: Repository, path: str) -> Any:
        """A small JSON file of the repository, not verified; raises HubRefused or HubUnavailable."""

        def ask() -> Any:
            address = self.address(repository.name, repository.commit, path)
            with self._egress.get(address, MAX_ANSWER, self._asking) as answer:
                if answer.status == 200:
                    return json.loads(b"".join(answer.chunks))
                if answer.status >= 500 or answer.status in BUSY:
                    raise HubUnavailable(f"The hub answered with status {answer.status}.")
                raise self.refusal(repository.name, answer.status, answer.headers.get("x-error-code"))

        return self._asked(repository.name, ask)

    def address(self, repository: str, commit: str, path: str) -> str:
        """Where the file's bytes are."""
        return f"{self.endpoint}/{repository}/resolve/{commit}/{quote(path)}"

    def refusal(self, repository: str, status: int, code: str | None) -> HubRefused:
        """What a 4xx means, as the client may read it."""
        if code == "GatedRepo" or status == 403:
            return HubRefused(
                f"{repository} is gated: accept its licence at {self.endpoint}/{repository} with the account whose "
                "token ATELIER_HUB_TOKEN holds."
            )
        if code == "RevisionNotFound":
            return HubRefused(f"{repository} has no such revision.")
        if status in (401, 404):
            known = "" if self.token else ", or it is private and ATELIER_HUB_TOKEN is not set"
            return HubRefused(f"{repository} is not on the hub{known}.")
        return HubRefused(f"The hub refused {repository} with status {status}.")

    def _conversion(self, repository: Repository) -> str | None:
        offers = self._api.get_repo_discussions(
            repository.name, author=CONVERTER, discussion_type="pull_request", discussion_status="open"
        )
        for offer in islice(offers, 100):
            ours = offer.title == CONVERTED and offer.author == CONVERTER and offer.is_pull_request
            if ours and offer.git_reference:
                commits = self._api.list_repo_commits(repository.name, revision=offer.git_reference)
                if len(commits) > 1 and commits[1].commit_id == repository.commit:
                    return commits[0].commit_id
        return None

    def _asked(self, repository: str, ask: Callable[[], Answer]) -> Answer:
        """The library's and the network's errors as ours."""
        try:
            return ask()
        except GatedRepoError as error:
            raise self.refusal(repository, 403, "GatedRepo") from error
        except RevisionNotFoundError as error:
            raise self.refusal(repository, 404, "RevisionNotFound") from error
        except RepositoryNotFoundError as error:
            raise self.refusal(repository, 404, None) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status < 500 and status not in BUSY:
                raise self.refusal(repository, status, None) from error
            raise HubUnavailable(f"The hub answered with status {status}.") from error
        except EgressError as error:
            if error.transient:
                raise HubUnavailable("The hub did not answer.") from error
            raise HubRefused(f"The hub cannot be asked: {error}") from error
        except httpx2.HTTPError as error:
            raise HubRefused("The hub sends us from one address to the next.") from error
        except NOT_THE_HUB as error:
            raise HubUnavailable("The hub's answer cannot be read.") from error


def _read(name: str, info: ModelInfo) -> Repository:
    """Raises ValueError for an answer that does not say what it must."""
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha) or info.siblings is None:
        raise ValueError("no commit, or no files")
    files = {}
    for file in info.siblings:
        files[file.rfilename] = _file(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id)
    config = info.config if isinstance(info.config, dict) else {}
    kinds = {str(config.get("model_type")), *map(str, info.tags or [])}
    licence = getattr(info.card_data, "license", None)
    task = info.pipeline_tag if isinstance(info.pipeline_tag, str) else None
    return Repository(name, info.sha, files, licence if isinstance(licence, str) else None, task, frozenset(kinds))


def _file(size: object, sha256: object, blob: object) -> RemoteFile:
    if type(size) is not int or size < 0:
        raise ValueError("a file without a size")
    if isinstance(sha256, str) and SHA256.fullmatch(sha256):
        return RemoteFile(size, sha256, None)
    if isinstance(blob, str) and SHA1.fullmatch(blob):
        return RemoteFile(size, None, blob)
    raise ValueError("a file without a hash")
