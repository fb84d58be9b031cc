"""Servers to ask: real sockets on this machine, with behaviours by path, and what each of them was asked."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Behaviour = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """`asked` holds each request's line, host and headers; `names` the server names that TLS was asked for."""

    daemon_threads = True

    def __init__(self, host: str, port: int, behaviours: dict[str, Behaviour]) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.names: list[str | None] = []
        self.behaviours = behaviours
        super().__init__((host, port), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.asked.append((f"{self.command} {self.path}", dict(self.headers), body))
        self.server.behaviours[self.path.split("?")[0]](self)

    do_GET = do_POST = _answer

    def log_message(self, *_: object) -> None:
        pass


def reply(body: bytes = b"hello", status: int = 200, **headers: str) -> Behaviour:
    """An ordinary answer; underscores in header names are dashes."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return behave


def redirect(location: str, status: int = 302) -> Behaviour:
    return reply(b"", status, Location=location)


def endless(handler: BaseHTTPRequestHandler) -> None:
    """A body of unknown size that does not end."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"400\r\n" + bytes(1024) + b"\r\n")


def dripping(head: bytes, drops: list[bytes]) -> Behaviour:
    """These bytes, and then one more every tenth of a second; `drops` collects what was sent so."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        while True:
            time.sleep(0.1)
            handler.wfile.write(b"x")
            handler.wfile.flush()
            drops.append(b"x")

    return behave


def broken(sent: bytes) -> Behaviour:
    """These bytes, and the end of the connection."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(sent)
        handler.close_connection = True

    return behave


@contextmanager
def serving(
    behaviours: dict[str, Behaviour], host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server while the block runs; with `tls` it speaks HTTPS."""
    server = Server(host, port, behaviours)
    if tls:
        tls.sni_callback = lambda _, name, __: server.names.append(name)
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificate(folder: Path, *names: str) -> Path:
    """A file with a key and a certificate of its own making for these host names and addresses."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return path


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
