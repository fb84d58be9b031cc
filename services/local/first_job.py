"""The first job, through the public API as any client would: submit, follow, collect."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

TERMINAL = {"completed", "failed", "cancelled", "expired"}
PATIENCE = 900.0  # seconds


class JobFailedError(RuntimeError):
    """The job did not complete; the text says what the API told."""


def draw(url: str, headers: dict[str, str], prompt: str, out: Path) -> Path:
    """Draw `prompt` for whom the headers name; the ZIP and the PNG are saved under `out`. The PNG's path."""
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        answer = client.post("/generate/text", json={"prompt": prompt})
        if answer.status_code != 202:
            raise JobFailedError(answer.text)
        job = answer.json()
        status = _follow(client, job["events_url"])
        if status["status"] != "completed":
            raise JobFailedError(f"the job is {status['status']}: {status['error']}")
        return _collect(client, job, out / _slug(prompt))


def _follow(client: httpx.Client, events_url: str) -> dict[str, Any]:
    """Show progress until the job ends; the last status. A cut stream is taken up again."""
    deadline = time.monotonic() + PATIENCE
    with tqdm(total=100, unit="%", bar_format="{desc:<12}{bar:30} {n:3.0f} %  {postfix}") as bar:
        while time.monotonic() < deadline:
            try:
                for status in _events(client, events_url):
                    _show(bar, status)
                    if status["status"] in TERMINAL:
                        return status
            except httpx.TransportError:
                time.sleep(1)
    raise JobFailedError(f"not done after {PATIENCE:.0f} s")


def _events(client: httpx.Client, events_url: str) -> Iterator[dict[str, Any]]:
    with client.stream("GET", events_url, timeout=httpx.Timeout(30, read=60)) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {") and line != "data: {}":
                yield json.loads(line.removeprefix("data: "))


def _show(bar: tqdm, status: dict[str, Any]) -> None:
    bar.set_description(status["phase"] or status["status"])
    if status["total_steps"]:
        bar.set_postfix_str(f"step {status['step']} of {status['total_steps']}", refresh=False)
    bar.n = status["progress"]
    bar.refresh()


def _collect(client: httpx.Client, job: dict[str, Any], stem: Path) -> Path:
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem = stem.with_name(f"{stem.name}-{job['job_id'][-6:]}")
    for path, address in (
        (stem.with_suffix(".zip"), job["result_url"]),
        (stem.with_suffix(".png"), f"{job['result_url']}/files/image_0.png"),
    ):
        with client.stream("GET", address) as answer, path.open("wb") as file:
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                file.write(chunk)
    return stem.with_suffix(".png")


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "picture"
