"""Uploads by tus, spelled out header by header, against whatever client is given."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from services.gateway.uploads.receiver import PART
from tests.platform import Platform
from tests.toys.runner import content

OFFSET_STREAM = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}
BIG = content(9, 2 * PART + 100_000)  # three parts


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def checksum(body: bytes, algorithm: str = "sha1") -> str:
    """An Upload-Checksum."""
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"


def create(client: httpx.Client, length: int | None, **headers: str) -> str:
    """A new upload's id."""
    told = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    made = client.post("/uploads", headers=TUS | told | headers)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"/uploads/{made.json()['id']}"
    return str(made.json()["id"])


def patch(client: httpx.Client, upload_id: str, offset: int, body: Any, **headers: str) -> httpx.Response:
    sent = TUS | {"Upload-Offset": str(offset), "Content-Type": OFFSET_STREAM} | headers
    return client.patch(f"/uploads/{upload_id}", content=body, headers=sent)


def offset(client: httpx.Client, upload_id: str) -> int:
    """How far the upload is, by HEAD."""
    answer = client.head(f"/uploads/{upload_id}", headers=TUS)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    return int(answer.headers["upload-offset"])


def whole(client: httpx.Client, body: Any, **headers: str) -> dict[str, Any]:
    """A file in one request, as its body."""
    made = client.post("/uploads", content=body, headers={"Content-Type": "image/png"} | headers)
    assert made.status_code == 201, made.text
    return dict(made.json())


def status(client: httpx.Client, upload_id: str) -> dict[str, Any]:
    answer = client.get(f"/uploads/{upload_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def sending(platform: Platform, upload_id: str, sent: bytes, announced: int, **headers: str) -> socket.socket:
    """A connection over which so many bytes of a PATCH were sent, of those that were announced."""
    connection = socket.create_connection(("127.0.0.1", platform.port), timeout=30)
    lines = [f"PATCH /uploads/{upload_id} HTTP/1.1", "Host: here", f"Content-Type: {OFFSET_STREAM}"]
    lines += ["Upload-Offset: 0", f"Content-Length: {announced}"]
    lines += [*(f"{name}: {value}" for name, value in headers.items()), "", ""]
    connection.sendall("\r\n".join(lines).encode() + sent)
    return connection


def stored(storage_url: str) -> list[Path]:
    """The files that the storage keeps of uploads; folders may vanish while they are looked at."""
    found = os.walk(Path(urlsplit(storage_url).path, "uploads"))
    return sorted(Path(folder, name) for folder, _, names in found for name in names)
