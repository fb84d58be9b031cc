"""The deploy files: valid by their schemas, consistent with themselves and with the settings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from shared.settings import Settings, environment_names, unknown_names

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
OURS = {"migrate", "gateway", "coordinator", "worker", "downloads", "flower"}


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


NEW_ENV = run_path(str(ROOT / "deploy" / "new_env.py"))
SECRET_NAME = re.compile(r"PASSWORD|SECRET|_AUTH$|REDIS_URL|DATABASE_URL")
PLACE = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """What `make env` writes."""
    text = NEW_ENV["new_env"]((ROOT / "deploy" / "env.example").read_text())
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def environment_of(service: dict[str, Any], values: dict[str, str]) -> dict[str, str]:
    """The service's environment as docker compose makes it of these values; KeyError for one that it would demand."""

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[0].partition(":-")[2].removesuffix("}")
        return values[name] if ":?" in found[0] else values.get(name) or default

    return {name: PLACE.sub(value, str(text)) for name, text in service.get("environment", {}).items()}


def test_no_secret_has_a_value_that_works(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for key, text in service.get("environment", {}).items():
            if SECRET_NAME.search(key) and key != "ENABLE_AUTH":
                assert PLACE.search(str(text)), f"{name}: {key}"
                assert ":-" not in str(text) or str(text).endswith(":-}"), f"{name}: {key}"
        for word in service.get("command", []):
            assert not re.search(r"pass|auth", word) or word == "--requirepass" or "$" in word, f"{name}: {word}"
    example = (ROOT / "deploy" / "env.example").read_text()
    assert re.findall(r"^(\w*(?:PASSWORD|SECRET)\w*)=.+", example, re.MULTILINE) == []


@pytest.mark.parametrize("name", sorted(OURS))
def test_what_make_env_writes_starts_every_process(
    compose: dict[str, Any], generated: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment_of(compose["services"][name], generated)
    assert start(given, monkeypatch)
    database = "GATEWAY_POSTGRES_PASSWORD" if name == "gateway" else "POSTGRES_PASSWORD"
    for variable in (database, "REDIS_PASSWORD", "STORAGE_PASSWORD"):
        for known in ("postgres", "changeme", "password", "minioadmin", "atelier"):
            with pytest.raises(ValidationError, match="everybody knows"):
                start(environment_of(compose["services"][name], generated | {variable: known}), monkeypatch)


def test_the_public_processes_refuse_samples_of_their_own(
    compose: dict[str, Any], generated: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, flower = compose["services"]["gateway"], compose["services"]["flower"]
    with pytest.raises(ValidationError, match="ATELIER_FLOWER_AUTH"):
        start(environment_of(flower, generated | {"FLOWER_PASSWORD": "changeme"}), monkeypatch)
    with pytest.raises(ValidationError, match="ATELIER_ADMIN_PASSWORD"):
        start(environment_of(gateway, generated | {"ATELIER_ADMIN_PASSWORD": "Change-Me-7"}), monkeypatch)
    with pytest.raises(KeyError, match="ATELIER_SECRET_KEY"):
        environment_of(gateway, {name: text for name, text in generated.items() if name != "ATELIER_SECRET_KEY"})


def start(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a process does first with this environment and no other."""
    with monkeypatch.context() as patch:
        for name in environment_names():
            patch.delenv(name, raising=False)
        for name, text in environment.items():
            patch.setenv(name, text)
        assert unknown_names(environment) == []
        return Settings()  # type: ignore[call-arg]


def test_make_env_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("new_env.py", "env.example"):
        (tmp_path / "deploy" / name).write_text((ROOT / "deploy" / name).read_text())
    command = [sys.executable, str(tmp_path / "deploy" / "new_env.py")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    written = (tmp_path / ".env").read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert subprocess.run(command, capture_output=True).returncode == 1
    assert (tmp_path / ".env").read_text() == written


def test_every_process_of_the_platform_is_started(compose: dict[str, Any]) -> None:
    commands = " ".join(" ".join(service.get("command", [])) for service in compose["services"].values())
    for module in ("migrations", "services.gateway", "services.coordinator", "services.flower"):
        assert module in commands
    assert '"workers"' in (ROOT / "deploy" / "docker" / "worker.Dockerfile").read_text()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_pass_hadolint(path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ignored = ["--ignore", "DL3013"]  # versions are bounded in pyproject.toml
    done = subprocess.run([hadolint, *ignored, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
