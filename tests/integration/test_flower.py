"""The operators' pages: Flower shows nothing before the password, a scraper needs a key of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from services.local.processes import usable_port
from tests.accounts import AUTH, login
from tests.platform import ROOT, Platform, wait_until

PASSWORD = "Yx7-kdQ2_m"
# What Prometheus 2 and 3 send.
SCRAPER = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    flower = {"ATELIER_FLOWER_PORT": str(usable_port(0)), "ATELIER_FLOWER_AUTH": f"operator:{PASSWORD}"}
    platform = Platform(environment | AUTH | flower, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("flower", "gateway")
    finally:
        platform.close()


@pytest.fixture(scope="module")
def flower(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{platform.environment['ATELIER_FLOWER_PORT']}", timeout=30) as client:

        def answers() -> bool:
            try:
                return client.get("/").status_code == 401
            except httpx.TransportError:
                return False

        wait_until(answers, 60, "Flower's answer")
        yield client


@pytest.mark.parametrize(
    "auth", [None, ("operator", "wrong"), ("operator", ""), ("", PASSWORD), ("Operator", PASSWORD)]
)
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/workers",
        "/worker/x",
        "/tasks",
        "/tasks/datatable",
        "/task/x",
        "/broker",
        "/api/workers",
        "/api/tasks",
        "/api/task/types",
        "/api/queues/length",
        "/metrics",
        "/healthcheck",
        "/login",
        "/logout",
        "/static/css/flower.css",
        "/nothing-here",
    ],
)
def test_without_the_password_there_is_nothing(flower: httpx.Client, path: str, auth: tuple[str, str] | None) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        answer = flower.request(method, path, auth=auth)
        assert answer.status_code == 401, method
        assert answer.text in ("Authentication required", "")
        assert answer.headers["www-authenticate"] == 'Basic realm="Flower"'
        assert not {"server", "set-cookie", "etag"} & set(answer.headers)


@pytest.mark.parametrize("header", ["Bearer x", "Basic", "Basic !!!", "Basic b3BlcmF0b3I=", "Basic \x80", "basic"])
def test_a_malformed_credential_is_none(flower: httpx.Client, header: str) -> None:
    assert flower.get("/metrics", headers={"Authorization": header.encode("latin-1")}).status_code == 401


@pytest.mark.parametrize("path", ["/", "/workers", "/tasks", "/broker", "/api/workers", "/metrics", "/healthcheck"])
def test_with_the_password_it_is_flower(flower: httpx.Client, path: str) -> None:
    assert flower.get(path, auth=("operator", PASSWORD)).status_code == 200


def test_it_changes_nothing(flower: httpx.Client) -> None:
    for path in ("/api/worker/shutdown/x", "/api/task/revoke/x", "/api/task/async-apply/atelier.run_job"):
        assert flower.post(path, auth=("operator", PASSWORD), json={}).status_code in (403, 405), path


def test_its_password_is_on_no_command_line_and_in_no_log(platform: Platform, flower: httpx.Client) -> None:
    flower.get("/", auth=("operator", PASSWORD))
    assert PASSWORD not in " ".join(platform.processes["flower"].args)  # type: ignore[arg-type]
    assert PASSWORD not in (platform.logs / "flower.log").read_text()


def test_where_accounts_are_on_it_does_not_start_without_a_password(platform: Platform) -> None:
    without = {name: value for name, value in platform.environment.items() if name != "ATELIER_FLOWER_AUTH"}
    command = [sys.executable, "-m", "services.flower"]
    done = subprocess.run(command, env=without, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ATELIER_FLOWER_AUTH" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_scraper_reads_the_metrics_with_a_key_for_nothing_else(platform: Platform) -> None:
    [documented] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "security.md").read_text(), re.DOTALL)
    [scrape] = yaml.safe_load(documented)["scrape_configs"]
    assert scrape["authorization"]["type"] == "Bearer"
    assert scrape["authorization"]["credentials_file"]
    key = login(platform.client, "operator").key("ops:read")["api_key"]
    headers = {"Authorization": f"{scrape['authorization']['type']} {key}", "Accept": SCRAPER}
    found = platform.client.get(scrape["metrics_path"], headers=headers)
    assert found.status_code == 200
    assert found.headers["content-type"].startswith("text/plain")
    assert "\natelier_workers 0" in found.text
    for path in ("/jobs", "/models/status", "/auth/users", "/auth/api-keys"):
        assert platform.client.get(path, headers=headers).status_code == 403, path
    assert platform.client.post("/toys/play", json={}, headers=headers).status_code == 403
    assert platform.client.get(scrape["metrics_path"], headers={"Accept": SCRAPER}).status_code == 401


def test_on_a_laptop_without_accounts_it_needs_no_password(environment: dict[str, str], tmp_path: Path) -> None:
    platform = Platform(environment | {"ATELIER_FLOWER_PORT": str(usable_port(0))}, tmp_path)
    try:
        platform.start("flower")
        address = f"http://127.0.0.1:{platform.environment['ATELIER_FLOWER_PORT']}"

        def answer() -> httpx.Response | None:
            try:
                return httpx.get(address, timeout=30)
            except httpx.TransportError:
                return None

        assert wait_until(answer, 60, "Flower's answer").status_code == 200
    finally:
        platform.close()
