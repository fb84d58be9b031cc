"""The speech family. Whoever imports transformers from here imports this first."""

import os

# Nothing is ever fetched, and nothing is printed past the logs while libraries are imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
