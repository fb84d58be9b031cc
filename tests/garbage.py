"""What somebody may leave among the toys' doorbells: no message at all, or one that no task could have sent."""

from __future__ import annotations

import json
from typing import Any

from shared.queue import TASK

QUEUE = "atelier.toy"


def sealed(body: Any, headers: Any, properties: Any) -> bytes:
    """A message as Celery's are, of these parts."""
    return json.dumps({"body": body, "headers": headers, "properties": properties}).encode()


ENVELOPE = {"delivery_tag": "0", "body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": QUEUE}}
GARBAGE = [
    b"",
    b"garbage",
    b"\xff\xfe\x00",
    b"[]",
    b"{}",
    b"[" * 100_000,
    sealed("e30=", {}, {}),
    sealed("e30=", [], ENVELOPE),
    sealed("e30=", {"task": []}, ENVELOPE),
    sealed("e30=", {"task": TASK}, ENVELOPE),
    sealed("e30=", {"task": TASK, "id": {}}, ENVELOPE),
    sealed("e30=", {"task": TASK, "id": "x", "eta": "soon"}, ENVELOPE),
    sealed("e30=", {"task": TASK, "id": "x", "timelimit": 7}, ENVELOPE),
    sealed("e30=", {"task": TASK, "id": "x", "timelimit": ["long", {}]}, ENVELOPE),
    sealed("not base 64", {"task": TASK, "id": "x"}, ENVELOPE),
    sealed(7, {"task": TASK, "id": "x"}, ENVELOPE),
]
