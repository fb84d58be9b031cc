"""No installed library is older than the first version that is clear of its known holes."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.version import Version

FLOORS = {
    "pillow": "13.0.0",  # JPEG buffer overflow, decompression bombs in several formats
    "starlette": "1.3.1",  # Range and form limits, Host confusion
    "python-multipart": "0.0.31",  # header and length smuggling
    "fastapi": "0.165.0",
    "celery": "5.7.0",
    "kombu": "5.7.0",
    "billiard": "4.3.1",
    "redis": "6.4",
    "flower": "2.2.0",
    "tornado": "6.6.1",
    "torch": "2.13",  # weights_only heap corruption
    "transformers": "5.3.0",  # remote code by configuration
    "diffusers": "0.38.0",  # trust_remote_code bypass
    "pyjwt": "2.15.1",  # algorithm binding, empty keys, crit
    "argon2-cffi": "25.1.0",
    "urllib3": "2.8.0",  # decompression bombs
    "h11": "0.16.0",  # request smuggling
    "aiohttp": "3.14.5",
    "pillow-heif": "1.3.0",
}
REQUIRED = set(FLOORS) - {"aiohttp", "pillow-heif"}  # these two only if something else brings them
NEVER = ("python-jose",)


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_nothing_is_older_than_its_floor(name: str) -> None:
    try:
        found = version(name)
    except PackageNotFoundError:
        assert name not in REQUIRED
        return
    assert Version(found) >= Version(FLOORS[name])


@pytest.mark.parametrize("name", NEVER)
def test_what_is_not_maintained_is_not_there(name: str) -> None:
    with pytest.raises(PackageNotFoundError):
        version(name)
