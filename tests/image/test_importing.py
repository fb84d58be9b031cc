"""What happens when a worker imports the family: nothing is fetched later, and nothing is printed past the logs."""

from __future__ import annotations

import subprocess
import sys

SOURCE = """
import logging
import workers.image.runner
from huggingface_hub import constants
assert constants.HF_HUB_OFFLINE
for name in ("diffusers", "transformers"):
    library = logging.getLogger(name)
    assert library.propagate and not library.handlers and library.level == logging.ERROR
"""


def test_importing_is_silent_and_offline() -> None:
    done = subprocess.run([sys.executable, "-c", SOURCE], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
