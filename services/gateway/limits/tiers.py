"""How many requests a caller may make and what its jobs may use. Tiers are those of the reference API 000."""

from __future__ import annotations

from dataclasses import dataclass

from shared.accounts.credentials import Principal
from shared.settings import Settings
from shared.usage.quotas import Quotas

MINUTE, DAY = 60, 86_400  # seconds
KEY = "key-"  # begins the names of a key's own policies


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


def allowances_of(principal: Principal, address: str, settings: Settings) -> tuple[Allowance, ...]:
    """An account's requests count together, whichever key they come with; without accounts an address's do.

    A key with limits of its own comes first: what it may not ask costs its account nothing.
    """
    if principal.user_id is None:
        return (allowance_of_address(address),)
    account = Allowance(f"account:{principal.owner}", account_policies(principal.tier, settings))
    own = _policies(KEY, principal.requests_per_minute or 0, principal.requests_per_day or 0)
    return (Allowance(f"key:{principal.key_id}", own), account) if own else (account,)


def account_policies(tier: str, settings: Settings) -> tuple[Policy, ...]:
    """What all requests of an account of this tier keep to."""
    enterprise = _policies("", settings.enterprise_per_minute, settings.enterprise_per_day)
    return {"free": FREE, "pro": PRO, "enterprise": enterprise}[tier]


def allowance_of_address(address: str) -> Allowance:
    """For callers who have not said who they are."""
    return Allowance(f"address:{address}", ANONYMOUS)


def quotas_of(principal: Principal, settings: Settings) -> Quotas:
    """What the owner may use: the account's own quotas, or its tier's."""
    tiers = {
        "free": Quotas(settings.free_stored_bytes, settings.free_gpu_seconds),
        "pro": Quotas(settings.pro_stored_bytes, settings.pro_gpu_seconds),
        "enterprise": Quotas(settings.enterprise_stored_bytes, settings.enterprise_gpu_seconds),
    }
    if principal.user_id is None:
        return Quotas(settings.anonymous_stored_bytes, settings.anonymous_gpu_seconds)
    tier, stored, gpu = tiers[principal.tier], principal.stored_bytes_quota, principal.gpu_seconds_quota
    return Quotas(tier.stored_bytes if stored is None else stored, tier.gpu_seconds if gpu is None else gpu)


def _policies(prefix: str, per_minute: int, per_day: int) -> tuple[Policy, ...]:
    """Those that are not 0."""
    both = (Policy(f"{prefix}minute", per_minute, MINUTE), Policy(f"{prefix}day", per_day, DAY))
    return tuple(policy for policy in both if policy.quota)
