"""`python -m workers.speech say "hello" --out hello.wav`: the runner without the platform, for trying things out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# The settings of a platform that is not there.
for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
    os.environ.setdefault(name, "none://")

from shared.settings import get_settings  # noqa: E402
from workers.runtime.console import ConsoleJob  # noqa: E402
from workers.runtime.devices import choose_device  # noqa: E402
from workers.speech.runner import SpeechRunner  # noqa: E402
from workers.speech.spec import FORMATS, SYNTHESIZE, SynthesizeInput  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    speaking = commands.add_parser("say", help="speak a text into a file")
    speaking.add_argument("text")
    speaking.add_argument("--out", type=Path, default=Path("speech.wav"), help=f"its ending says: {', '.join(FORMATS)}")
    for field in ("model", "voice", "language", "emotion", "quality"):
        speaking.add_argument(f"--{field}")
    for factor in ("speed", "pitch", "volume"):
        speaking.add_argument(f"--{factor}", type=float)
    speaking.add_argument("--seed", type=int)
    speaking.set_defaults(run=say)
    args = parser.parse_args()
    args.run(args)


def say(args: argparse.Namespace) -> None:
    """Speak `args.text` into `args.out`."""
    given = {name: value for name, value in vars(args).items() if name in SynthesizeInput.model_fields}
    asked = {name: value for name, value in given.items() if value is not None}
    request = SYNTHESIZE.resolve(SynthesizeInput(**asked, output_format=args.out.suffix.lstrip(".") or "wav"))
    runner = SpeechRunner()
    runner.setup(choose_device(get_settings().device), request.model)
    runner.run(request, ConsoleJob(SYNTHESIZE.name, "sentence", lambda _: args.out))


if __name__ == "__main__":
    main()
