"""`python -m workers.image "a red circle"`: the runner without the platform, for trying things out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# The settings of a platform that is not there.
for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
    os.environ.setdefault(name, "none://")

from shared.settings import get_settings  # noqa: E402
from workers.image.runner import ImageRunner  # noqa: E402
from workers.image.spec import GENERATE, GenerateInput  # noqa: E402
from workers.runtime.console import ConsoleJob  # noqa: E402
from workers.runtime.devices import choose_device  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--out", type=Path, default=Path("picture.png"))
    parser.add_argument("--model")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", default="512x512", help="WIDTHxHEIGHT")
    parser.add_argument("--lora", action="append", default=[], help="NAME or NAME=WEIGHT; several times")
    args = parser.parse_args()
    width, height = (int(side) for side in args.size.split("x"))
    loras = [(*text.split("=", 1), "1")[:2] for text in args.lora]
    request = GENERATE.resolve(
        GenerateInput.model_validate(
            {
                "prompt": args.prompt,
                "model": args.model,
                "seed": args.seed,
                "num_inference_steps": args.steps,
                "width": width,
                "height": height,
                "loras": [{"name": name, "weight": float(weight)} for name, weight in loras],
            }
        )
    )

    def place(name: str) -> Path:
        return args.out.with_name(f"{args.out.stem}{name.removeprefix('image').removesuffix('.png')}.png")

    runner = ImageRunner()
    runner.setup(choose_device(get_settings().device), request.model)
    runner.run(request, ConsoleJob(GENERATE.name, "step", place))


if __name__ == "__main__":
    main()
