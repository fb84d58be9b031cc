"""`python -m workers.predict example "[1, 2, 3, 4, 5]"`: the runner without the platform, for trying things out."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

# The settings of a platform that is not there.
for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
    os.environ.setdefault(name, "none://")

from shared.family import FileInput  # noqa: E402
from shared.settings import get_settings  # noqa: E402
from workers.predict.runner import PredictRunner  # noqa: E402
from workers.predict.spec import PREDICT, PredictInput  # noqa: E402
from workers.runtime.console import ConsoleJob  # noqa: E402
from workers.runtime.devices import choose_device  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("inputs", nargs="?", help="JSON, or a text")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--parameters", type=json.loads, default={}, help="a JSON object")
    args = parser.parse_args()
    body = {"model_name": args.model, "parameters": args.parameters}
    if args.inputs is not None:
        body["inputs"] = _parsed(args.inputs)
    if args.image:
        body["image"] = FileInput(name=args.image.name)
    request = PREDICT.resolve(PredictInput.model_validate(body))
    job = ConsoleJob(PREDICT.name, "step", Path)
    job.inputs = {"image": args.image} if args.image else {}
    runner = PredictRunner()
    runner.setup(choose_device(get_settings().device), request.model_name)
    print(json.dumps(runner.run(request, job), indent=2))


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
