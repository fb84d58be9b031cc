"""Writes .env with fresh random secrets, after the pattern of deploy/env.example. Needs nothing but Python."""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# They need no quoting anywhere, and spell none of the words that an account's password must not contain.
LETTERS = "DEFGHJKLMNQRSVWXZdefghjkmnqrsvwxz456789"
LENGTH = 40
EMPTY = re.compile(r"^(\w+)=$", re.MULTILINE)


def new_env(pattern: str) -> str:
    """The pattern with a secret behind each name that has no value."""
    return EMPTY.sub(lambda found: f"{found[1]}={_secret(found[1])}", pattern)


def _secret(name: str) -> str:
    random = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
    return random + ("-Dd4" if name == "ATELIER_ADMIN_PASSWORD" else "")  # what an account's password must have besides


def main() -> int:
    """0, or 1 if there is a file already: its secrets are in use."""
    path = ROOT / ".env"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{path} is there already; remove it first if its secrets are not in use", file=sys.stderr)
        return 1
    with os.fdopen(descriptor, "w") as file:
        file.write(new_env((ROOT / "deploy" / "env.example").read_text()))
    print(f"{path} is written; ATELIER_ADMIN_PASSWORD in it is the first admin's, FLOWER_PASSWORD is Flower's")
    return 0


if __name__ == "__main__":
    sys.exit(main())
