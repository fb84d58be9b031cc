"""schemathesis as two people who must not see each other's objects, on a gateway where authentication is on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accounts import AUTH, register
from tests.conformance.shown_models import MODELS
from tests.integration.test_accounts import execute
from tests.platform import ROOT, Platform

CHECKS = "not_a_server_error,ignored_auth,object_level_authorization,negative_data_rejection,use_after_free"
CONFIG = """
seed = 1
[checks]
negative_data_rejection.expected-statuses = ["4xx", "503"]
[auth.wfc]
path = "{users}"
peers = ["ada", "bob"]
"""
# A live job's stream does not end by itself; the others would end the accounts that the rest runs with.
LEFT_OUT = ["/status/{job_id}/events", "/auth/logout", "/auth/password"]


@pytest.fixture
def served(environment: dict[str, str], tmp_path: Path) -> Iterator[Platform]:
    execute(environment, MODELS)  # else every picture is refused with 503
    more = {"ATELIER_MAX_WAIT": "1", "ATELIER_IMPORT_DIR": str(tmp_path)}
    platform = Platform(environment | AUTH | more, tmp_path)
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


def test_nobody_gets_in_without_a_credential_or_at_what_is_anothers(served: Platform, tmp_path: Path) -> None:
    users = [
        {"name": name, "fixedHeaders": [{"name": "X-API-Key", "value": register(served.client, name).key()["api_key"]}]}
        for name in ("ada", "bob")
    ]
    (tmp_path / "users.json").write_text(json.dumps({"auth": users}))
    (tmp_path / "schemathesis.toml").write_text(CONFIG.format(users=tmp_path / "users.json"))
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(tmp_path / "schemathesis.toml"), "run"),
        *(f"{served.client.base_url}/openapi.json", "--checks", CHECKS),
        *("--max-examples", os.environ.get("SCHEMATHESIS_EXAMPLES", "15"), "--no-color"),
        *("--report", "json", "--report-json-path", str(report)),
        *(option for path in LEFT_OUT for option in ("--exclude-path", path)),
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.conformance.media_types"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
