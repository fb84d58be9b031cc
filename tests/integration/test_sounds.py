"""A sound's way through the real processes: from its client to the samples that a runner hears."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.platform import Platform
from tests.sounds import KINDS, MEDIA_TYPES, encoded, hours_of_silence, other_container, tone
from tests.toys.family import MAX_SECONDS, MAX_SOUND
from tests.uploads import whole

LISTEN = "/toys/listen"
SENT: dict[str, Callable[[httpx.Client, bytes], httpx.Response]] = {
    "a form": lambda client, body: client.post(LISTEN, files={"sound": ("a.bin", body)}),
    "base64": lambda client, body: client.post(LISTEN, json={"sound": base64.b64encode(body).decode()}),
    "an upload": lambda client, body: client.post(LISTEN, json={"sound": whole(client, body)["reference"]}),
}


def ended(platform: Platform, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    return platform.finished(answer.json()["job_id"])


@pytest.mark.parametrize(
    ("way", "kind"), [*(("an upload", kind) for kind in KINDS), ("a form", "flac"), ("base64", "mp3")]
)
def test_a_runner_hears_what_was_sent(platform: Platform, way: str, kind: str) -> None:
    answer = SENT[way](platform.client, encoded(tone(2), kind))
    assert ended(platform, answer)["status"] == "completed"
    job_id = answer.json()["job_id"]
    heard = platform.client.get(f"/results/{job_id}/files/sound.json").json()
    assert heard["rate"] == 16_000 or kind == "ogg opus"
    assert heard["seconds"] == pytest.approx(2, abs=0.1)
    assert heard["loudness"] == pytest.approx(0.354, abs=0.05)


def test_an_upload_knows_its_kind(platform: Platform) -> None:
    for kind in KINDS:
        assert whole(platform.client, encoded(tone(), kind))["media_type"] == MEDIA_TYPES[kind.split()[0]]


@pytest.mark.hostile("A")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (hours_of_silence(2), f"sound: it is longer than {MAX_SECONDS} seconds."),
        (encoded(tone(), "flac")[:500], "sound cannot be read as a sound."),
        (b"fLaC" + bytes(500), "sound cannot be read as a sound."),
    ],
    ids=["a bomb", "half a file", "noise"],
)
def test_a_sound_that_cannot_be_heard_fails_its_job_at_once(platform: Platform, body: bytes, said: str) -> None:
    found = ended(platform, SENT["a form"](platform.client, body))
    assert (found["status"], found["attempt"]) == ("failed", 1)
    assert found["error"] == {"code": "input_rejected", "message": said}


@pytest.mark.hostile("A")
@pytest.mark.parametrize("way", SENT)
@pytest.mark.parametrize(
    ("body", "code"),
    [(other_container("AIFF"), 400), (b"RIFF\0\1\0\0WEBPVP8 " + bytes(500), 400), (b"fLaC" + bytes(MAX_SOUND), 413)],
    ids=["an AIFF", "a picture", "too large"],
)
def test_what_is_no_sound_is_not_accepted(platform: Platform, way: str, body: bytes, code: int) -> None:
    answer = SENT[way](platform.client, body)
    assert (answer.status_code, answer.json()["details"]["field"]) == (code, "sound")
