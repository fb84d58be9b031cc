"""`python -m migrations`: bring the database to the newest schema; harmless to repeat and to run twice at once."""

from __future__ import annotations

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError


def main() -> None:
    """Upgrade to head; ends with one line that says what is missing."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        sys.exit(f"migrations: {error}")


if __name__ == "__main__":
    main()
