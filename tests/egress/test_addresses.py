"""Where requests may go: the table of addresses, and the spellings of hosts that lead to bad ones."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address, ip_network

import pytest

from shared.egress.addresses import is_allowed, resolve_host
from shared.egress.client import Egress
from shared.egress.errors import BadUrl, FetchFailed
from shared.egress.urls import parse_url, port_of, without_query

BAD = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1
192.0.0.192 192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
255.255.255.255 168.63.129.16 :: ::1 ::7f00:1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:168.63.129.16
::ffff:169.254.169.254 ::ffff:224.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 2002:7f00:1:: 2002:808:808::1
2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 fc00::1 fd00:ec2::254 fd12:3456::1 fe80::1 fe80::1%lo fec0::1
feff::1 ff02::1 ff0e::1 100::1
"""
GOOD = "1.1.1.1 8.8.8.8 93.184.216.34 172.32.0.1 192.0.1.1 168.63.129.17 2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8"


@pytest.mark.hostile("S")
@pytest.mark.parametrize("text", BAD.split())
def test_an_address_that_leads_inside_is_bad(text: str) -> None:
    assert not is_allowed(ip_address(text))


@pytest.mark.parametrize("text", GOOD.split())
def test_a_public_address_is_good(text: str) -> None:
    assert is_allowed(ip_address(text))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("10.2.0.1", False), ("fd12::1", True), ("fd13::1", False)],
)
def test_a_network_that_the_operator_named_is_good(text: str, allowed: bool) -> None:
    assert is_allowed(ip_address(text), [ip_network("10.1.0.0/16"), ip_network("fd12::/32")]) is allowed


SPELLINGS = """
2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 127.1 127.0.1 0 00 127.0.0.1 127.0.0.1. １２７.0.0.1 127。0。0。1
127．0．0．1 ⓛocalhost localhost LOCALHOST localhost. ｌocalhost [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1]
[::ffff:7f00:1] [::127.0.0.1] [64:ff9b::7f00:1] [fe80::1%25lo] [::1%25lo] 2852039166 0xa9fea9fe 169.254.43518
"""


@pytest.mark.hostile("S")
@pytest.mark.parametrize("host", SPELLINGS.split())
def test_no_spelling_of_a_host_leads_inside(host: str) -> None:
    with pytest.raises((BadUrl, FetchFailed)) as caught, Egress(seconds=10).get(f"http://{host}/", 100):
        pass
    assert not caught.value.transient


SHAPES = {
    "another scheme": "ftp://example.com/a",
    "a file": "file:///etc/passwd",
    "gopher": "gopher://example.com/",
    "no scheme": "//example.com/a",
    "a path": "/etc/passwd",
    "no host": "http:///a",
    "nothing": "",
    "a scheme alone": "http://",
    "no slashes": "http:example.com",
    "a space in front": " http://example.com/",
    "a user": "http://user@example.com/",
    "a user and a password": "http://user:secret@example.com/",
    "a password": "http://:secret@example.com/",
    "a user behind a backslash": "http://example.com\\@127.0.0.1/",
    "a backslash": "http://example.com\\.evil.org/",
    "an escape in the host": "http://%31%32%37.0.0.1/",
    "NUL in the host": "http://127.0.0.1%00.example.com/",
    "a space in the host": "http://exa mple.com/",
    "a line break": "http://example.com/\r\nX: y",
    "a tab": "http://exam\tple.com/",
    "an empty label": "http://example..com/",
    "a label that is too long": f"http://{'a' * 64}.com/",
    "a name that is too long": f"http://{'.'.join(['a' * 60] * 5)}/",
    "a port that is not allowed": "http://example.com:22/",
    "another port than the number seems": "https://example.com:0443443/",
    "port 0": "http://example.com:0/",
    "a port beyond all": "http://example.com:65616/",
    "a port that is no number": "http://example.com:http/",
    "two ports": "http://example.com:80:22/",
    "IPv6 without its end": "http://[::1/",
    "IPv6 with a zone": "http://[fe80::1%25eth0]/",
    "brackets around a name": "http://[example.com]/",
    "2,049 characters": "http://example.com/" + "a" * 2030,
}


@pytest.mark.hostile("S")
@pytest.mark.parametrize("name", SHAPES)
def test_an_address_of_bad_shape_is_refused_without_an_echo(name: str) -> None:
    with pytest.raises(BadUrl) as caught:
        parse_url(SHAPES[name])
    assert "secret" not in str(caught.value)
    assert "example" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "the log must not tell it either"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://example.com", "example.com", 80),
        ("HTTPS://Example.COM/", "example.com", 443),
        ("https://example.com:443/", "example.com", 443),
        ("http://example.com:443/", "example.com", 443),
        ("https://bücher.example/ü?q=ü", "xn--bcher-kva.example", 443),
        ("http://a_b.example./", "a_b.example.", 80),
        ("http://[2606:4700::1111]:80/", "2606:4700::1111", 80),
        ("http://example.com/" + "a" * 2029, "example.com", 80),
    ],
)
def test_a_good_address_is_read(text: str, host: str, port: int) -> None:
    url = parse_url(text)
    assert (url.raw_host.decode(), port_of(url)) == (host, port)


def test_further_ports_are_a_setting() -> None:
    assert port_of(parse_url("http://example.com:9000/", {9000})) == 9000
    with pytest.raises(BadUrl):
        parse_url("http://example.com:9001/", {9000})


def test_what_is_shown_of_an_address_has_no_query() -> None:
    assert without_query("https://example.com:8443/a%20b?sig=secret#x") == "https://example.com:8443/a%20b"


def test_the_systems_resolver_is_not_waited_for_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()  # not before the caller has given up

    def slow(*_: object, **__: object) -> list[object]:
        answers.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(TimeoutError):
        resolve_host("example.com", 80, 0.05)
    answers.set()


def test_the_systems_resolver_names_each_address_once() -> None:
    assert resolve_host("127.0.0.1", 80, 5) == ["127.0.0.1"]
    with pytest.raises(OSError, match=r"."):
        resolve_host("nowhere.invalid", 80, 20)
