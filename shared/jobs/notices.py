"""The Postgres channels that wake the platform at once; each has a poll behind it, so a lost notice costs a moment."""

QUEUED_CHANNEL = "atelier_queued"
"""Payload: the family that has new work. Gateway → dispatcher, after the commit."""

CANCEL_CHANNEL = "atelier_cancel"
"""Payload: the job that its owner wants cancelled. Gateway → the worker that runs it."""

UNLOAD_CHANNEL = "atelier_unload"
"""Payload: {"request", "family", "model"}. Gateway → every worker; it asks again until they have answered."""
