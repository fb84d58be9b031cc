"""`python -m services.local`: start everything, draw a first picture, keep serving until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from services.local.first_job import JobFailedError, draw
from services.local.postgres import PostgresError
from services.local.redis import RedisServerError
from services.local.stack import LocalStack, Ports, StackError

PROMPT = "a large red circle on a blue background"


def say(text: str) -> None:
    print(text, flush=True)


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""


def main() -> int:
    """0, or 1 if the stack or the first job failed."""
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise_stopped)
    began = time.monotonic()
    stack = LocalStack(arguments.home, Ports(gateway=arguments.port), say)
    try:
        say("Starting Postgres, Redis, the gateway, the coordinator, two workers and Flower …")
        stack.start()
        say(f"Up after {time.monotonic() - began:.1f} s. First job: {arguments.prompt}")
        picture = draw(stack.url, stack.headers, arguments.prompt, arguments.out)
        say(f"Picture: {picture} (the ZIP is beside it), {time.monotonic() - began:.1f} s after the start")
        say(f"API: {stack.url}   docs: {stack.url}/docs   Flower: {stack.flower_url}")
        if not arguments.once:
            say("Ctrl-C stops.")
            _serve(stack)
        return 0
    except (StackError, PostgresError, RedisServerError, JobFailedError) as error:
        say(f"Failed: {error}")
        return 1
    except Stopped:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        say("Stopping …")
        stack.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--once", action="store_true", help="end after the first job")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("ATELIER_HOME", ".atelier")))
    parser.add_argument("--out", type=Path, default=Path("out"))
    return parser.parse_args()


def _raise_stopped(*_: object) -> None:
    raise Stopped


def _serve(stack: LocalStack) -> None:
    pause = threading.Event()
    while True:
        stack.check()
        pause.wait(0.5)


if __name__ == "__main__":
    sys.exit(main())
