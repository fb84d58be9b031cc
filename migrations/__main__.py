"""`python -m migrations`: bring the database to the newest schema; harmless to repeat and to run twice at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config


def main() -> None:
    """Upgrade to head."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    command.upgrade(config, "head")


if __name__ == "__main__":
    main()
