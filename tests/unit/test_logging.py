"""Everything a process says is one JSON line an event, without control characters and without secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

MARK = "Zq9vXk3wPz7m"
KEY = "sk_abcdefgh" + MARK + "0123456789abcdefghijklmnopqrstu"

PROCESS = f"""
import logging, sys, threading, warnings
from structlog.contextvars import bind_contextvars
from shared.logging import configure_logging, get_logger

configure_logging("tried", level="DEBUG", json_lines=sys.argv[1] == "json")
bind_contextvars(request_id="the-request")
log, library = get_logger("ours"), logging.getLogger("somebody.elses")
log.info("with fields", api_key="{MARK}", nested={{"headers": [("Authorization", "Bearer {MARK}")]}})
log.info("password={MARK}", error="postgresql://u:{MARK}@db/x")
log.info("forged\\n{{\\"event\\": \\"false\\"}}\\x1b[2J\\x7f\\u202e\\u2028")
library.debug("asked %s with %r", "https://u:{MARK}@h/?sig={MARK}", {{"X-API-Key": "{MARK}"}})
library.info("an extra", extra={{"cookie": "{MARK}", "data": {{"args": "({KEY},)"}}}})
library.info("too few %s %s", "{KEY}")
try:
    try:
        raise ValueError("token: {MARK}")
    except ValueError as error:
        raise RuntimeError("redis://:{MARK}@cache:6379/0") from error
except RuntimeError:
    log.exception("failed")
    library.exception("failed too")
warnings.warn("secret={MARK}")
thread = threading.Thread(target=lambda: int("password={MARK}"), name="lost")
thread.start()
thread.join()
log.info("without a context", where=threading.Thread(target=lambda: log.info("in a thread")).start())
raise SystemError("whsec_{MARK}")
"""

S3 = f"""
import os
from shared.logging import configure_logging
from shared.storage.open import open_storage

configure_logging("tried", level="DEBUG", json_lines=True)
os.environ |= {{"AWS_ACCESS_KEY_ID": "atelier", "AWS_SECRET_ACCESS_KEY": "{MARK}", "AWS_MAX_ATTEMPTS": "1"}}
storage = open_storage("s3://bucket/prefix", "http://127.0.0.1:9", "us-east-1")
storage.put("results/a", [b"hello"], "text/plain")
"""


def run(source: str, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-c", source, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    code, output = run(PROCESS, "json")
    assert code == 1
    assert MARK not in output
    return [json.loads(line) for line in output.splitlines()]


def test_every_line_is_json_and_says_which_process(lines: list[dict[str, Any]]) -> None:
    complete = [line for line in lines if line["event"] != "a log line could not be written"]
    assert len(complete) == len(lines) - 1
    assert all(line["process"] == "tried" and line["level"] and line["timestamp"] for line in complete)
    said = " ".join(line["event"] for line in complete)
    assert "a thread ends" in said
    assert "this process ends" in said
    assert "UserWarning" in said


def test_a_line_carries_its_request(lines: list[dict[str, Any]]) -> None:
    found = {line["event"]: line.get("request_id") for line in lines}
    assert found["with fields"] == found["an extra"] == "the-request"
    assert found["in a thread"] is None


def test_control_characters_are_escaped() -> None:
    _, output = run(PROCESS, "json")
    assert all(character.isprintable() and character.isascii() for line in output.split("\n") for character in line)


def test_on_a_terminal_too() -> None:
    code, output = run(PROCESS, "terminal")
    assert code == 1
    assert MARK not in output
    assert "\\x1b[2J\\x7f\\u202e\\u2028" in output
    assert not any(line.startswith('{"event": "false"}') for line in output.splitlines())
    assert all(character.isprintable() for line in output.split("\n") for character in line.replace("\t", ""))


def test_a_store_that_does_not_answer_leaves_no_secret() -> None:
    code, output = run(S3)
    assert code == 1
    assert "StorageError" in output
    for secret in (MARK, "Signature", "Credential="):
        assert secret not in output
