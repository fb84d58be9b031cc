"""What can go wrong on the way out. The texts may be shown to clients: none says why a host failed.

EgressError
├── BadUrl        the address's shape: found before anything is sent
├── FetchFailed   blocked, unknown, silent or broken: one text for all, the log has the reason
└── BadAnswer     there is an answer, but too large or compressed
"""

from __future__ import annotations


class EgressError(Exception):
    """`transient` tells whether trying again later may work."""

    transient = False


class BadUrl(EgressError):
    """No request is made to an address of this shape."""


class FetchFailed(EgressError):
    """Nothing usable came from there. A name that nobody knows and a forbidden address look alike."""

    def __init__(self, *, transient: bool) -> None:
        super().__init__("The address could not be fetched.")
        self.transient = transient


class BadAnswer(EgressError):
    """The answer is larger than allowed, or compressed although that was not asked for."""
