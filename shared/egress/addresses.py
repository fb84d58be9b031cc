"""Which IP addresses may be connected to: public ones, and those of networks that the operator named."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from threading import Thread

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int, float], Sequence[str]]
"""(host, port, seconds) → IP addresses as text; raises OSError (a gaierror for a name that nobody knows)."""

# What `is_global` lets pass although it leads inside, or to a cloud's own services.
NEVER: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "64:ff9b::/96",  # NAT64: an IPv4 address inside
            "64:ff9b:1::/48",  # NAT64 of one's own
            "2002::/16",  # 6to4: an IPv4 address inside
            "2001::/32",  # Teredo
            "::/96",  # IPv4-compatible, and unspecified
            "fec0::/10",  # site-local
            "192.0.0.0/24",  # protocol assignments, one cloud's metadata among them
            "168.63.129.16",  # Azure's services
            "fd00:ec2::254",  # Amazon's metadata
        ),
    )
)


def is_allowed(address: Address, networks: Collection[Network] = ()) -> bool:
    """Whether a request may go there; `networks` may be asked although they are private."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return is_allowed(address.ipv4_mapped, networks)
    if any(address in network for network in networks):
        return True
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    return address.is_global and not special and not any(address in network for network in NEVER)


def resolve_host(host: str, port: int, seconds: float) -> list[str]:
    """See Resolve; what this machine's resolver says, which may take long and cannot be told how long."""
    answer: Future[list[str]] = Future()

    name = host.encode("ascii")  # bytes, because Python would put a str through its own, older IDNA once more

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError as error:
            answer.set_exception(error)
        else:
            answer.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in found)))

    Thread(target=ask, name="resolver", daemon=True).start()
    return answer.result(seconds)
