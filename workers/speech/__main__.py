"""`python -m workers.speech say "hello" --out hello.wav`, `… hear hello.wav`: the runner without the platform, for
trying things out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# The settings of a platform that is not there.
for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
    os.environ.setdefault(name, "none://")

from shared.family import FileInput  # noqa: E402
from shared.settings import get_settings  # noqa: E402
from workers.runtime.console import ConsoleJob  # noqa: E402
from workers.runtime.devices import choose_device  # noqa: E402
from workers.speech.runner import SpeechRunner  # noqa: E402
from workers.speech.spec import FORMATS, SYNTHESIZE, SynthesizeInput  # noqa: E402
from workers.speech.transcription_schema import Transcription  # noqa: E402
from workers.speech.transcription_spec import TRANSCRIBE  # noqa: E402


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
    hearing = commands.add_parser("hear", help="write down what is said in a recording")
    hearing.add_argument("file", type=Path)
    hearing.add_argument("--out", type=Path, default=Path(), help="where transcript.json, .srt and .vtt go")
    for field in ("model", "language", "task", "initial_prompt"):
        hearing.add_argument(f"--{field.replace('_', '-')}")
    hearing.add_argument("--beam-size", type=int)
    hearing.add_argument("--temperature", type=float)
    hearing.add_argument("--word-timestamps", action="store_true")
    hearing.set_defaults(run=hear)
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


def hear(args: argparse.Namespace) -> None:
    """Print what is said in `args.file`."""
    fields = {name: value for name, value in vars(args).items() if name in Transcription.model_fields}
    asked = {name: value for name, value in fields.items() if value is not None and name != "file"}
    request = TRANSCRIBE.resolve(Transcription(**asked, file=FileInput(name=args.file.name)))
    job = ConsoleJob(TRANSCRIBE.name, "window", lambda name: args.out / name)
    job.inputs = {"file": args.file}
    runner = SpeechRunner()
    runner.setup(choose_device(get_settings().device), request.model)
    print(runner.run(request, job)["text"])


if __name__ == "__main__":
    main()
