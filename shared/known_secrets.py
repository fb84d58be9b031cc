"""Passwords that everybody knows: from examples, images' documentation, and the lists that are tried first."""

from __future__ import annotations

import re

WORDS = """
admin administrator atelier changeit changeme changethis correcthorse correcthorsebatterystaple default demo dev
development example flower foobar guest insecure letmein localhost minio minioadmin minioadminpassword miniopassword
minioroot mypassword mysecretpassword notsecret operator pass passw passwd password passwort postgres postgresql public
qwerty rabbitmq redis replaceme root rootpassword sample secret secretkey secretpassword setitinenv setme staging
storage supersecret sys test testing todo user username welcome xxx yourpassword yoursecret yoursecretkey
"""
KNOWN = frozenset(WORDS.split())
SHORTEST_NUMBER = 20  # digits and signs alone are tried through, if they are fewer


def is_known(secret: str, username: str | None = None) -> bool:
    """Whether it protects nothing, whatever its case, digits and signs: `Change-Me!`, `postgres1`, `12345678`.

    Nothing at all, and the user's own name, are known too.
    """
    letters = re.sub(r"[\W\d_]", "", secret.lower())
    if not letters:
        return len(secret) < SHORTEST_NUMBER
    return letters in KNOWN or (username is not None and secret.lower() == username.lower())
