"""`python -m workers.avatar --seed 1 --views 4`: the runner without the platform, for trying things out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# The settings of a platform that is not there.
for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
    os.environ.setdefault(name, "none://")

from shared.settings import get_settings  # noqa: E402
from workers.avatar.runner import AvatarRunner  # noqa: E402
from workers.avatar.spec import GENERATE, Avatar  # noqa: E402
from workers.runtime.console import ConsoleJob  # noqa: E402
from workers.runtime.devices import choose_device  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("avatar"))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model")
    for attribute in ("age", "gender", "expression", "ethnicity", "hair-color"):
        parser.add_argument(f"--{attribute}")
    for extra in ("turntable", "mesh", "depth"):
        parser.add_argument(f"--{extra}", action="store_true")
    args = parser.parse_args()
    style = {name: getattr(args, name) for name in ("age", "gender", "expression", "ethnicity", "hair_color")}
    request = GENERATE.resolve(
        Avatar.model_validate(
            {
                "num_views": args.views,
                "resolution": args.size,
                "seed": args.seed,
                "model": args.model,
                "style_config": style,
                "turntable": args.turntable,
                "mesh": args.mesh,
                "depth": args.depth,
            }
        )
    )
    runner = AvatarRunner()
    runner.setup(choose_device(get_settings().device), request.model)
    runner.run(request, ConsoleJob(GENERATE.name, "view", lambda name: args.out / name))


if __name__ == "__main__":
    main()
