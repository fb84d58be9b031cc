"""How many requests a caller may make. Tiers are those of the reference API 000."""

from __future__ import annotations

from dataclasses import dataclass

from shared.accounts.credentials import Principal
from shared.settings import Settings

MINUTE, DAY = 60, 86_400  # seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `quota` requests in any `seconds`."""

    name: str
    quota: int
    seconds: int


FREE = (Policy("minute", 10, MINUTE), Policy("day", 100, DAY))
PRO = (Policy("minute", 100, MINUTE), Policy("day", 10_000, DAY))
# Sixty a minute, of which a hundred may come at once: more than that in a minute, or than five minutes' worth in five.
ANONYMOUS = (Policy("burst", 100, MINUTE), Policy("sustained", 5 * 60, 5 * MINUTE))


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whose requests are counted together, and by which policies, the shortest first; none means no limit."""

    subject: str
    policies: tuple[Policy, ...]


def allowance_of(principal: Principal, address: str, settings: Settings) -> Allowance:
    """An account's requests count together, whichever key they come with; without accounts an address's do."""
    if principal.user_id is None:
        return allowance_of_address(address)
    enterprise = (
        Policy("minute", settings.enterprise_per_minute, MINUTE),
        Policy("day", settings.enterprise_per_day, DAY),
    )
    tiers = {"free": FREE, "pro": PRO, "enterprise": tuple(policy for policy in enterprise if policy.quota)}
    return Allowance(f"account:{principal.owner}", tiers[principal.tier])


def allowance_of_address(address: str) -> Allowance:
    """For callers who have not said who they are."""
    return Allowance(f"address:{address}", ANONYMOUS)
