"""Which addresses events may be sent to. Names are resolved and checked again at each delivery (`shared/egress/`)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from shared.egress.addresses import is_allowed
from shared.egress.errors import BadUrl
from shared.egress.urls import parse_url
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Targets:
    """The operator's rules."""

    settings: Settings

    def check(self, url: str) -> str:
        """The address itself; BadUrl if nothing is ever sent there, and the text says why."""
        parsed = parse_url(url, self.settings.egress_ports)
        if parsed.scheme != "https" and not self.settings.webhook_http:
            raise BadUrl("The address must begin with https://.")
        try:
            address = ip_address(parsed.raw_host.decode("ascii"))
        except ValueError:
            return url
        if not is_allowed(address, self.settings.egress_networks):
            raise BadUrl("The address is not a public one.")
        return url
