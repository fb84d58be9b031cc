"""A small hub on this machine: the addresses that huggingface_hub asks, files with ranges, LFS files on a second host.

It misbehaves on request: `trouble` maps a part of an address to behaviours that answer instead, one request each.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from tests.egress.servers import Behaviour, Server, redirect, reply, serving

HUB_HOST, FILES_HOST, INSIDE = "127.0.0.2", "127.0.0.3", "127.0.0.1"  # the last one may not be asked
SIGNATURE = "?X-Amz-Signature=deadbeef"
DATE = "2026-01-01T00:00:00.000Z"
TOKEN = "hub-token-of-these-tests-1234"
PICKLE = b"\x80\x04."


def safetensors(seed: int = 0, numbers: int = 1000) -> bytes:
    """A whole file with one tensor."""
    data = (hashlib.sha256(str(seed).encode()).digest() * (numbers // 8 + 1))[: 4 * numbers]
    header = json.dumps({"w": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def transformer(seed: int = 0, numbers: int = 1000, **more: bytes) -> dict[str, bytes]:
    """The files of a small repository; keywords add files, with __ for dots."""
    config = {"model_type": "bert", "architectures": ["BertModel"]}
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(seed, numbers)}
    return files | {name.replace("__", "."): content for name, content in more.items()}


@dataclass
class Repository:
    """`branches` name commits; a commit's files by path. `told` changes what the API says of it."""

    name: str
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    licence: str = "apache-2.0"
    task: str | None = None
    tags: tuple[str, ...] = ()
    gated: bool = False
    offers: list[dict[str, Any]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """A new commit on the branch."""
        text = "".join(f"{name}{hashlib.sha1(content).hexdigest()}" for name, content in sorted(files.items()))
        sha = hashlib.sha1(f"{self.name}{branch}{len(self.commits)}{text}".encode()).hexdigest()
        if branch in self.branches:
            self.parents[sha] = self.branches[branch]
        self.commits[sha], self.branches[branch] = files, sha
        return sha

    def info(self, sha: str) -> dict[str, Any]:
        config = json.loads(self.commits[sha].get("config.json", b"{}")) if not self.told.get("bad_config") else {}
        return {
            "id": self.name,
            "modelId": self.name,
            "sha": sha,
            "gated": "manual" if self.gated else False,
            "tags": [*self.tags, f"license:{self.licence}"],
            "pipeline_tag": self.task,
            "cardData": {"license": self.licence},
            "config": {"model_type": config.get("model_type")},
            "siblings": [self._sibling(name, content) for name, content in self.commits[sha].items()],
            **self.told,
        }

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        size = self.sizes.get(name, len(content))
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": self.hashes.get(name, blob)}
        if is_lfs(name):
            sha256 = self.hashes.get(name, hashlib.sha256(content).hexdigest())
            entry["lfs"] = {"size": size, "sha256": sha256, "pointerSize": 134}
        return entry


def is_lfs(name: str) -> bool:
    return name.endswith((".safetensors", ".onnx", ".bin"))


class FakeHub:
    """Both hosts. `asked` are the requests to the hub, `fetched` those to the host of the LFS files."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.trouble: dict[str, list[Behaviour]] = {}
        self.hub: Server
        self.files: Server

    @property
    def endpoint(self) -> str:
        return f"http://{HUB_HOST}:{self.hub.port}"

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        repository = self.repositories[name] = Repository(name, **options)
        repository.commit(files)
        return repository

    def requests(self, part: str, server: Server | None = None) -> list[dict[str, str]]:
        """The headers of the requests whose address has this part, in order; of both hosts, unless one is named."""
        asked = server.asked if server else [*self.hub.asked, *self.files.asked]
        return [{key.title(): text for key, text in headers.items()} for line, headers, _ in asked if part in line]

    def on_hub(self, handler: BaseHTTPRequestHandler) -> None:
        path, _, query = unquote(handler.path).partition("?")
        (self._trouble(path) or self._api(path, query))(handler)

    def on_files(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(handler.path).partition("?")[0]
        (self._trouble(path) or self._file(path))(handler)

    def _file(self, path: str) -> Behaviour:
        name, sha, file = path.strip("/").split("@", 2)
        return ranged(self.repositories[name].commits[sha][file])

    def _trouble(self, path: str) -> Behaviour | None:
        return next((left.pop(0) for part, left in self.trouble.items() if part in path and left), None)

    def _api(self, path: str, query: str) -> Behaviour:
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        repository = self.repositories.get(name)
        if repository is None:
            return reply(b"{}", 404, X_Error_Code="RepoNotFound")
        if parts[:2] == ["api", "models"] and parts[4] == "discussions":
            return as_json({"discussions": repository.offers, "count": len(repository.offers), "start": 0})
        sha = repository.branches.get("/".join(parts[5:]), parts[5]) if parts[0] == "api" else parts[3]
        if sha not in repository.commits:
            return reply(b"{}", 404, X_Error_Code="RevisionNotFound")
        if parts[:2] == ["api", "models"] and parts[4] == "commits":
            return as_json([_commit(sha), *([_commit(repository.parents[sha])] if sha in repository.parents else [])])
        if parts[:2] == ["api", "models"]:
            return as_json(repository.info(sha))
        if repository.gated:
            return reply(b"{}", 403, X_Error_Code="GatedRepo")
        file = "/".join(parts[4:])
        if is_lfs(file):
            return redirect(f"http://{FILES_HOST}:{self.files.port}/{name}@{sha}@{file}{SIGNATURE}")
        return ranged(repository.commits[sha][file])


class _All(dict[str, Behaviour]):
    """One behaviour for every path."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    def __getitem__(self, _: str) -> Behaviour:
        return self._behaviour


@contextmanager
def serving_hub() -> Iterator[FakeHub]:
    """The hub and its host of files, while the block runs."""
    fake = FakeHub()
    with serving(_All(fake.on_hub), HUB_HOST) as fake.hub, serving(_All(fake.on_files), FILES_HOST) as fake.files:
        yield fake


def as_json(value: Any) -> Behaviour:
    return reply(json.dumps(value).encode(), Content_Type="application/json")


def _commit(sha: str) -> dict[str, Any]:
    return {"id": sha, "authors": [{"user": "somebody"}], "date": DATE, "title": "a commit", "message": ""}


def ranged(content: bytes) -> Behaviour:
    """The content, or the range of it that is asked for."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        if not asked:
            return reply(content)(handler)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return reply(b"", 416, Content_Range=f"bytes */{len(content)}")(handler)
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return reply(content[start:], 206, Content_Range=span)(handler)

    return behave


def truncated(content: bytes, sent: int) -> Behaviour:
    """Announces the whole content, sends so many bytes of it, and hangs up."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:sent])
        handler.close_connection = True

    return behave


def stalling(content: bytes, sent: int, seconds: float = 60) -> Behaviour:
    """Announces the whole content, sends so many bytes of it, and then nothing."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:sent])
        handler.wfile.flush()
        time.sleep(seconds)
        handler.close_connection = True

    return behave
