"""`atelier`: one command for all.

Each subcommand is a module that is loaded when it is called: a client needs no server, and the server's subcommands say
so where it is not installed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib import import_module, metadata

DISTRIBUTION = "atelier-workshop"


@dataclass(frozen=True, slots=True)
class Command:
    """`module` has a `main(arguments, program)` that gives the exit code; `extra` is what must be installed for it."""

    module: str
    summary: str
    extra: str


COMMANDS = {
    "admin": Command(
        "services.admin.__main__", "accounts, on the server itself: make an admin, give a tier", "gateway"
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """The subcommand's exit code; 2 for a wrong call, 1 for a subcommand that is not installed."""
    given = _parser().parse_args(arguments)
    command = COMMANDS[given.command]
    try:
        run = import_module(command.module).main
    except ModuleNotFoundError as error:
        print(
            f"atelier {given.command}: {error.name} is not installed; this needs the server: "
            f"pip install '{DISTRIBUTION}[{command.extra}]'",
            file=sys.stderr,
        )
        return 1
    code: int = run(given.arguments, f"atelier {given.command}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="atelier", description="Atelier, a workshop for generative models.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", title="commands")
    for name, command in COMMANDS.items():
        # Its own parser reads what follows, `--help` too.
        entry = commands.add_parser(name, help=command.summary, add_help=False, prefix_chars="\0")
        entry.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"
