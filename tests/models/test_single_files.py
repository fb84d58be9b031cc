"""Single files at addresses: LoRAs and ONNX files, by the same rules."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import ValidationFailed
from tests.egress.servers import Behaviour, endless, redirect, reply
from tests.models.conftest import Shelf
from tests.models.hub_server import FILES_HOST, INSIDE, PICKLE, TOKEN, FakeHub, ranged, safetensors, truncated
from workers.models.faults import HashMismatch, UnsafeModel
from workers.runtime.fetching import FetchFailed, FetchRefused

LORA = safetensors(3, 400_000)
GOOD = {"source": "url", "model_id": "https://example.com/a.safetensors", "name": "style", "task": "lora"}
ONNX = b"\x08\x07" + bytes(100)


def tagged(content: bytes, etag: str) -> Behaviour:
    """The content or the range that is asked for, of this version; all of it if another version was begun."""

    def behave(handler: Any) -> None:
        if handler.headers.get("If-Range") not in (None, etag):
            del handler.headers["Range"]
        plain = handler.send_response
        handler.send_response = lambda status: (plain(status), handler.send_header("ETag", etag))
        ranged(content)(handler)

    return behave


@pytest.fixture
def place(hub: FakeHub) -> str:
    return f"http://{FILES_HOST}:{hub.files.port}/style.safetensors?key=secret-of-the-address"


def lora(shelf: Shelf, address: str, **more: Any) -> dict[str, Any]:
    return shelf.run("download", GOOD | {"model_id": address, **more})


def test_a_lora_at_an_address(shelf: Shelf, hub: FakeHub, place: str) -> None:
    hub.trouble["style"] = [tagged(LORA, '"1"')] * 9
    output = lora(shelf, place, sha256=hashlib.sha256(LORA).hexdigest())
    assert output["status"] == "completed"
    assert shelf.files("image/loras/style")["pytorch_lora_weights.safetensors"] == LORA
    record = json.loads(shelf.files("image/loras/style")["atelier-source.json"])
    assert (record["source"], record["repository"]) == ("url", place.partition("?")[0])
    assert "secret-of-the-address" not in str(output) + str(shelf.files())
    assert all("Authorization" not in headers for headers in hub.requests("style"))
    assert lora(shelf, place)["status"] == "already_exists"
    with pytest.raises(HashMismatch):
        lora(shelf, place, sha256="0" * 64)
    assert shelf.files("image/loras/style")["pytorch_lora_weights.safetensors"] == LORA


def test_one_that_changed_meanwhile_starts_over(shelf: Shelf, hub: FakeHub, place: str) -> None:
    newer = safetensors(4, 400_000)
    cut = truncated(LORA, 500_000)
    hub.trouble["style"] = [tagged(LORA, '"1"'), cut, tagged(newer, '"2"')]
    lora(shelf, place)
    assert shelf.files("image/loras/style")["pytorch_lora_weights.safetensors"] == newer
    assert hub.requests("style")[-1]["If-Range"] == '"1"'


def test_an_onnx_file_becomes_a_model(shelf: Shelf, hub: FakeHub) -> None:
    hub.trouble["net"] = [reply(ONNX)] * 2
    address = f"http://{FILES_HOST}:{hub.files.port}/net.onnx"
    shelf.run("download", {"source": "url", "model_id": address, "name": "net", "task": "onnx"})
    assert shelf.files("predict/net")["model.onnx"] == ONNX


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (reply(PICKLE * 100), UnsafeModel, "not a whole safetensors"),
        (reply(b"gone", 404), FetchRefused, "status 404"),
        (reply(b"", 503), FetchFailed, "status 503"),
        (endless, FetchRefused, "how large"),
        (redirect(f"http://{INSIDE}/x"), FetchRefused, "could not be fetched"),
        (reply(LORA, Content_Encoding="gzip"), FetchRefused, "compressed"),
    ],
)
def test_what_is_no_lora_is_refused(
    shelf: Shelf, hub: FakeHub, place: str, answer: Behaviour, kind: type[Exception], words: str
) -> None:
    hub.trouble["style"] = [answer] * 9
    with pytest.raises(kind, match=words):
        lora(shelf, place)
    assert (shelf.models(), shelf.left_over()) == ([], [])
    assert TOKEN not in str(hub.requests("style"))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"model_id": "http://user:pass@example.com/a.safetensors"}, "model_id"),
        ({"model_id": "file:///etc/a.safetensors"}, "model_id"),
        ({"model_id": "https://example.com/a.bin"}, "model_id"),
        ({"model_id": "https://example.com/a.onnx"}, "model_id"),
        ({"task": None}, "task"),
        ({"task": "fill-mask"}, "task"),
        ({"revision": "main"}, "revision"),
        ({"include_vocoder": True}, "include_vocoder"),
        ({"experimental": True}, "experimental"),
        ({"source": "huggingface", "model_id": "acme/x", "sha256": "0" * 64}, "sha256"),
        ({"source": "huggingface", "model_id": "acme"}, "model_id"),
        ({"source": "huggingface", "model_id": "acme/../x"}, "model_id"),
        ({"source": "huggingface", "model_id": "acme/x", "include_vocoder": True}, "include_vocoder"),
        ({"source": "tts_auto", "model_id": "acme/x"}, "task"),
        ({"source": "huggingface", "model_id": "acme/x", "auto_convert_tts": True}, "task"),
        ({"source": "pytorch_hub"}, "source"),
        ({"source": "torchvision"}, "source"),
        ({"source": "nvidia"}, "source"),
        ({"custom_settings": {"a": 1}}, "custom_settings"),
        ({"config": {"a": 1}}, "config"),
        ({"name": "../x"}, "name"),
        ({"name": "loras"}, "name"),
        ({"name": "house-shapes"}, "name"),
        ({"task": "dance"}, "task"),
        ({"revision": "a/../b"}, "revision"),
        ({"sha256": "xyz"}, "sha256"),
        ({"force": "yes"}, "force"),
        ({"unknown": 1}, "unknown"),
    ],
)
@pytest.mark.hostile("J")
def test_a_request_that_cannot_work_names_the_field(
    shelf: Shelf, hub: FakeHub, changed: dict[str, Any], field: str
) -> None:
    with pytest.raises((ValidationFailed, ValidationError)) as caught:
        shelf.run("download", GOOD | changed)
    error = caught.value
    named = error.details["field"] if isinstance(error, ValidationFailed) else error.errors()[0]["loc"][0]
    assert named == field
    assert hub.requests("/") == []
