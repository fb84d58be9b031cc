"""The deploy files: valid by their schemas, consistent with themselves and with the settings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import environment_names

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
# What the servers and boto3 read themselves.
FOREIGN = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "GATEWAY_POSTGRES_PASSWORD",
    "MINIO_ROOT_PASSWORD",
    "MINIO_ROOT_USER",
    "POSTGRES_INITDB_ARGS",
    "POSTGRES_PASSWORD",
    "POSTGRES_USER",
    "STORAGE_PASSWORD",
}
OURS = {"migrate", "gateway", "coordinator", "worker", "flower"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def test_compose_keeps_its_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_variable_is_one_that_somebody_reads(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        known = environment_names() | FOREIGN if name in OURS else FOREIGN
        assert set(service.get("environment", {})) <= known, name


def test_every_reference_has_its_target(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith(".") or source in compose["volumes"]
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_every_secret_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    example = (ROOT / "deploy" / "env.example").read_text()
    assert asked <= set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_every_process_of_the_platform_is_started(compose: dict[str, Any]) -> None:
    commands = " ".join(" ".join(service.get("command", [])) for service in compose["services"].values())
    for module in ("migrations", "services.gateway", "services.coordinator", "flower"):
        assert module in commands
    assert '"workers"' in (ROOT / "deploy" / "docker" / "worker.Dockerfile").read_text()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_pass_hadolint(path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ignored = ["--ignore", "DL3013"]  # versions are bounded in pyproject.toml
    done = subprocess.run([hadolint, *ignored, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
