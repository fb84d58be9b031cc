"""`python -m services.admin create NAME EMAIL`: an admin's account; the password is asked for, or read from stdin."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys

import asyncpg
from pydantic import ValidationError

from services.gateway.auth.accounts import create_admin
from shared.accounts.passwords import Passwords
from shared.accounts.users import Users
from shared.errors import AtelierError
from shared.settings import get_settings


def main() -> int:
    """0, or 1 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m services.admin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make an account that is an admin")
    create.add_argument("name")
    create.add_argument("email")
    arguments = parser.parse_args()
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    try:
        asyncio.run(_create(arguments.name, arguments.email, password))
    except ValidationError as error:
        first = error.errors()[0]
        print(f"{first['loc'][0]}: {first['msg']}", file=sys.stderr)
        return 1
    except (AtelierError, OSError, asyncpg.PostgresError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments.name} is an admin.")
    return 0


async def _create(name: str, email: str, password: str) -> None:
    passwords = Passwords()
    async with asyncpg.create_pool(get_settings().database_url, min_size=1, max_size=1) as pool:
        await create_admin(Users(pool), passwords, name, email, password)
    passwords.close()


if __name__ == "__main__":
    sys.exit(main())
