"""The workers as they report themselves, and the models that they can serve."""

REPORT_SECONDS = 5.0
"""A worker reports this often; it looks after its children at the same time."""

ALIVE_SECONDS = 30.0
"""A worker that has been silent for longer does not count as live."""
