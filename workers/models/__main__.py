"""`python -m workers.models pull openai/whisper-tiny --task automatic-speech-recognition`: without the platform.

`verify` and `delete` take FAMILY/NAME, `import` a path under ATELIER_IMPORT_DIR. Models lie under ATELIER_MODELS_DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

# The settings of a platform that is not there.
for variable in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
    os.environ.setdefault(variable, "none://")

from pydantic import ValidationError  # noqa: E402

from shared.errors import AtelierError  # noqa: E402
from workers.models.runner import ModelsRunner  # noqa: E402
from workers.models.spec import MODELS  # noqa: E402
from workers.runtime.console import ConsoleJob  # noqa: E402
from workers.runtime.runner import RunnerError  # noqa: E402


def main() -> int:
    """0, or 1 if it cannot be done."""
    arguments = _arguments()
    operation = MODELS.operation(f"models.{'download' if arguments.do == 'pull' else arguments.do}")
    runner = ModelsRunner()
    try:
        request = operation.resolve(operation.input.model_validate(_body(arguments)))
        runner.setup("cpu", "default")
        output = runner.run(request, ConsoleJob(operation.name, "B", Path))
    except (AtelierError, RunnerError, ValidationError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(output, indent=1))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["pull", "import", "verify", "delete"])
    parser.add_argument("what", help="OWNER/NAME, an address, a path, or FAMILY/NAME")
    parser.add_argument("--name", help="what to call it; left out, the last part of what it is called there")
    parser.add_argument("--task")
    parser.add_argument("--revision")
    parser.add_argument("--lora", action="store_true", help="verify or delete a LoRA")
    parser.add_argument("--force", action="store_true")
    return parser.parse_args()


def _body(arguments: argparse.Namespace) -> dict[str, Any]:
    what, last = arguments.what, arguments.what.rstrip("/").rpartition("/")[2]
    if arguments.do in ("verify", "delete"):
        return {"family": what.partition("/")[0], "kind": "adapter" if arguments.lora else "model", "name": last}
    asked = {"name": arguments.name or Path(last).stem if "://" in what else arguments.name or last}
    asked |= {"task": arguments.task, "force": arguments.force}
    if arguments.do == "import":
        return asked | {"path": what}
    source = "url" if "://" in what else "huggingface"
    return asked | {"source": source, "model_id": what, "revision": arguments.revision}


if __name__ == "__main__":
    sys.exit(main())
