"""`atelier admin`: what only the operator of the server does to accounts."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from collections.abc import Sequence

import asyncpg
from pydantic import ValidationError

from services.gateway.auth.accounts import create_admin
from shared.accounts.passwords import Passwords
from shared.accounts.users import Users
from shared.errors import AtelierError, NotFound
from shared.settings import get_settings


def main(arguments: Sequence[str] | None = None, program: str = "python -m services.admin") -> int:
    """0, or 1 with one line that says what is wrong."""
    given = _parser(program).parse_args(arguments)
    try:
        commands = {"create": _create, "tier": _set_tier, "quota": _set_quota}
        print(asyncio.run(commands[given.command](given)))
    except ValidationError as error:
        first = error.errors()[0]
        print(f"{first['loc'][0]}: {first['msg']}", file=sys.stderr)
        return 1
    except (AtelierError, OSError, asyncpg.PostgresError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="What only the operator of the server does to accounts.",
        epilog="It reads the server's environment (DATABASE_URL and the other settings).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make an account that is an admin; asks for the password")
    create.add_argument("name")
    create.add_argument("email")
    tier = commands.add_parser("tier", help="how many requests an account may make")
    tier.add_argument("name")
    tier.add_argument("tier", choices=["free", "pro", "enterprise"])
    quota = commands.add_parser("quota", help="how much an account's jobs may use")
    quota.add_argument("name")
    quota.add_argument("quota", choices=["stored_bytes", "gpu_seconds"], help="bytes now, or seconds a day (UTC)")
    quota.add_argument("value", type=_quota, help="a number, 0 for no limit, or `tier` for the tier's own")
    return parser


def _quota(text: str) -> int | None:
    """The number; None for `tier`."""
    if text == "tier":
        return None
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError("a whole number or `tier`")
    return int(text)


async def _create(arguments: argparse.Namespace) -> str:
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    passwords = Passwords()
    async with _pool() as pool:
        await create_admin(Users(pool), passwords, arguments.name, arguments.email, password)
    passwords.close()
    return f"{arguments.name} is an admin."


async def _set_tier(arguments: argparse.Namespace) -> str:
    async with _pool() as pool:
        if not await Users(pool).set_tier(arguments.name, arguments.tier):
            raise NotFound("There is no account with this name.")
    return f"{arguments.name} has the tier {arguments.tier}."


async def _set_quota(arguments: argparse.Namespace) -> str:
    async with _pool() as pool:
        if not await Users(pool).set_quota(arguments.name, arguments.quota, arguments.value):
            raise NotFound("There is no account with this name.")
    told = {None: "that of the tier", 0: "without limit"}.get(arguments.value, arguments.value)
    return f"{arguments.name}'s {arguments.quota}: {told}."


def _pool() -> asyncpg.pool.Pool:
    return asyncpg.create_pool(get_settings().database_url, min_size=1, max_size=1)


if __name__ == "__main__":
    sys.exit(main())
