"""What a caller may do. Roles grant scopes; a key may hold fewer than its owner's roles grant."""

from __future__ import annotations

from collections.abc import Iterable

SCOPES = {
    "jobs:read": "follow own jobs and collect their results",
    "jobs:write": "submit, cancel and delete own jobs",
    "webhooks:manage": "register own webhooks and read their secrets",
    "ops:read": "metrics and the state of the platform",
    "logs:read": "the platform's log files, and the last lines of anybody's attempts",
    "models:manage": "download, load and remove models",
    "accounts:manage": "see and delete accounts",
}
ROLES = {"user": frozenset({"jobs:read", "jobs:write", "webhooks:manage"}), "admin": frozenset(SCOPES)}


def scopes_of(roles: Iterable[str]) -> frozenset[str]:
    """All that these roles grant; an unknown role grants nothing."""
    return frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))
