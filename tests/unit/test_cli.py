"""The `atelier` command: what is there, and what is not installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from tomllib import loads

import pytest

from client.cli import main
from tests.conftest import ROOT


def test_the_installed_command_is_this_one() -> None:
    scripts = loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("atelier", scripts["atelier"], "console_scripts").load() is main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "admin"),
        (["admin", "--help"], "usage: atelier admin [-h] {create,tier,quota}"),
        (["admin", "create", "--help"], "usage: atelier admin create [-h] name email"),
    ],
)
def test_help_says_what_there_is(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["unheard-of"], ["admin"], ["admin", "tier", "ada", "huge"]])
def test_a_wrong_call_shows_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: atelier" in capsys.readouterr().err


def test_without_the_server_it_says_what_to_install() -> None:
    # -S: no site-packages, as where only the client is installed.
    command = [sys.executable, "-S", "-m", "client", "admin", "tier", "ada", "pro"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'atelier-workshop[gateway]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
