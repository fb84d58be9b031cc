"""Which addresses may be asked for, by their shape. httpx2 is the one parser: what it reads is what is connected to."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv6Address

import httpx2

from shared.egress.errors import BadUrl

MAX_LENGTH = 2048  # characters
PORTS = {"http": 80, "https": 443}
LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*\.?")


def parse_url(text: str, ports: Collection[int] = ()) -> httpx2.URL:
    """The address with its host in IDNA; BadUrl says what is wrong with it and repeats nothing of it.

    `ports` are allowed besides 80 and 443. Whom the host's name leads to is not looked at here.
    """
    if len(text) > MAX_LENGTH:
        raise BadUrl(f"The address is longer than {MAX_LENGTH} characters.")
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        raise BadUrl("The address cannot be read.") from None
    if url.scheme not in PORTS:
        raise BadUrl("The address must begin with http:// or https://.")
    if url.userinfo:
        raise BadUrl("The address must not hold a user name or password.")
    if not _is_host(url.raw_host.decode("ascii")):
        raise BadUrl("The address has no valid host.")
    if port_of(url) not in {*PORTS.values(), *ports}:
        raise BadUrl("The address has a port that is not allowed.")
    return url


def port_of(url: httpx2.URL) -> int:
    """The port to connect to."""
    return PORTS[url.scheme] if url.port is None else url.port


def origin_of(url: httpx2.URL) -> str:
    """What logs may say of an address: paths and queries may be secrets."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def without_query(text: str) -> str:
    """An address as it may be passed on: the query is where signatures and tokens are."""
    url = httpx2.URL(text)
    return origin_of(url) + url.raw_path.partition(b"?")[0].decode("ascii")


def _is_host(host: str) -> bool:
    if ":" not in host:
        return NAME.fullmatch(host) is not None
    try:
        return IPv6Address(host).scope_id is None
    except ValueError:
        return False
