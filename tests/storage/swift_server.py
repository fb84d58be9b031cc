"""A real S3-protocol server for the tests: OpenStack Swift with its s3api, one replica, in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

USER, KEY, REGION, BUCKET = "test:tester", "testing", "us-east-1", "artifacts"
NO_MEMCACHED = "127.0.0.1:1"  # tempauth insists on the filter; nothing listens there, and none of the tests needs it
START_SECONDS = 60
STOP_SECONDS = 10

BUILD_RINGS = """
import sys
from swift.common.ring import RingBuilder

folder, *ports = sys.argv[1:]
for kind, port in zip(("account", "container", "object"), ports, strict=True):
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{kind}.ring.gz")
"""

COMMON = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
db_preallocation = off
log_level = ERROR
"""

BACKEND = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {folder}/cache
# Listings must be true at once: there is no updater that would mend a late one.
container_update_timeout = 30
"""

PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 10
node_timeout = 30
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = {no_memcached}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
""" + "".join(
    f"[filter:{name}]\nuse = egg:swift#{egg}\n"
    for name, egg in {
        "catch_errors": "catch_errors",
        "gatekeeper": "gatekeeper",
        "healthcheck": "healthcheck",
        "listing_formats": "listing_formats",
        "bulk": "bulk",
        "copy": "copy",
        "slo": "slo",
        "dlo": "dlo",
    }.items()
)


class SwiftServer:
    """Four foreground child processes; `url` is the S3 endpoint once `start` returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(("account", "container", "object", "proxy"), _free_ports(4), strict=True))
        self._children: list[subprocess.Popen[bytes]] = []
        self.url = f"http://127.0.0.1:{self._ports['proxy']}"

    def start(self) -> None:
        """Start everything and wait until it answers."""
        if not has_attributes(self._folder):
            raise RuntimeError(f"Swift needs a file system with user xattrs: {self._folder} (choose one by --basetemp)")
        self._configure()
        for kind in self._ports:
            self._children.append(self._spawn(kind))
        deadline = time.monotonic() + START_SECONDS
        while not all(_listens(port) for port in self._ports.values()) or not _healthy(self.url):
            if time.monotonic() > deadline or any(child.poll() is not None for child in self._children):
                raise RuntimeError(f"Swift did not start:\n{self._log()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the children, by their handles."""
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _configure(self) -> None:
        (self._folder / "devices" / "d1").mkdir(parents=True)
        (self._folder / "cache").mkdir()
        self._write("swift.conf", "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n")
        for kind in self._ports:
            self._write(f"{kind}.conf", COMMON + (PROXY if kind == "proxy" else BACKEND), kind)
        ports = [str(port) for kind, port in self._ports.items() if kind != "proxy"]
        command = [sys.executable, "-c", BUILD_RINGS, str(self._folder), *ports]
        subprocess.run(command, check=True, capture_output=True, env=self._environment())

    def _write(self, name: str, text: str, kind: str = "") -> None:
        user = pwd.getpwuid(os.getuid()).pw_name
        port = self._ports.get(kind, 0)
        filled = text.format(folder=self._folder, port=port, user=user, kind=kind, no_memcached=NO_MEMCACHED)
        (self._folder / name).write_text(filled)

    def _spawn(self, kind: str) -> subprocess.Popen[bytes]:
        command = [program(f"swift-{kind}-server"), str(self._folder / f"{kind}.conf"), "-v"]
        with (self._folder / f"{kind}.log").open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self._environment()
            )

    def _environment(self) -> dict[str, str]:
        return os.environ | {"SWIFT_DIR": str(self._folder), "PYTHONWARNINGS": "ignore"}

    def _log(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self._folder.glob("*.log")))


def program(name: str) -> str:
    """Path of one of Swift's programs, beside this Python; empty if Swift is not installed."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or ""


def has_attributes(folder: Path) -> bool:
    """Whether this file system keeps user xattrs: Swift has an object's metadata there."""
    probe = folder / "xattr-probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.swift.probe", b"x" * 1000)
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthcheck", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
