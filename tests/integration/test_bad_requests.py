"""Bad requests by group, over HTTP: each is refused by name, leaves nothing behind, and the next good one works."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg2
import pytest

from shared.ids import new_id
from tests.platform import Platform
from workers.families import families

RAW = "@raw@"
MIB = 1 << 20


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(environment, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_and_the_next_one_works(platform: Platform) -> Iterator[None]:
    before = rows(platform)
    yield
    assert rows(platform) == before, "a refused request left something behind"
    assert platform.client.post("/toys/play", json={}).status_code == 202


def rows(platform: Platform) -> tuple[int, ...]:
    connection = psycopg2.connect(platform.environment["DATABASE_URL"])
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM webhooks)")
        counted: tuple[int, ...] = cursor.fetchone() or ()
    connection.close()
    return counted


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The one error body."""
    assert answer.status_code in (statuses or (400,)), answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    assert len(answer.content) < 20_000
    return body


# J: documents that are not what JSON means, or not an object.
DOCUMENTS = {
    "nothing": b"",
    "white space": b"  \n",
    "truncated": b'{"steps": 1',
    "two documents": b"{}{}",
    "a comment": b'{"steps": 1 /* one */}',
    "single quotes": b"{'steps': 1}",
    "a trailing comma": b'{"steps": 1,}',
    "NaN": b'{"step_seconds": NaN}',
    "Infinity": b'{"step_seconds": Infinity}',
    "a number too large": b'{"step_seconds": 1e999}',
    "100,000 digits": b'{"seed": 1' + b"0" * 100_000 + b"}",
    "the same key twice": b'{"steps": 1, "steps": 2}',
    "deep arrays": b'{"say": ' + b"[" * 40 + b"]" * 40 + b"}",
    "half a million brackets": b"[" * 500_000,
    "too many keys": json.dumps({f"k{n}": n for n in range(1001)}).encode(),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"steps": 1}'.encode("utf-16"),
    "UTF-32": '{"steps": 1}'.encode("utf-32"),
    "Latin-1": b'{"say": "\xe9"}',
    "overlong UTF-8": b'{"say": "\xc0\xaf"}',
    "a lone surrogate": b'{"say": "\\ud800"}',
    "a surrogate in UTF-8": b'{"say": "\xed\xa0\x80"}',
    "NUL": b'{"say": "a\\u0000b"}',
    "a raw control character": b'{"say": "a\nb"}',
    "a string": b'"steps"',
    "a number": b"5",
    "null": b"null",
    "an array": b"[{}]",
    "an unknown field": b'{"stepz": 1}',
    "the prototype": b'{"__proto__": {"steps": 1}}',
    "a column of ours": b'{"state": "completed", "owner": "somebody"}',
    "a form's text": b"steps=1&say=x",
    "XML": b"<steps>1</steps>",
}


@pytest.mark.hostile("J")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents(platform: Platform, name: str) -> None:
    answer = platform.client.post("/toys/play", content=DOCUMENTS[name], headers={"Content-Type": "application/json"})
    assert refused(answer)["details"]["field"]


@pytest.mark.hostile("J")
@pytest.mark.parametrize("path", ["/auth/login", "/webhooks", "/generate", "/generate/avatar", "/generate/batch"])
@pytest.mark.parametrize("name", ["truncated", "NaN", "the same key twice", "NUL", "half a million brackets", "null"])
def test_documents_elsewhere(platform: Platform, path: str, name: str) -> None:
    answer = platform.client.post(path, content=DOCUMENTS[name], headers={"Content-Type": "application/json"})
    if path.startswith("/auth"):  # there are no accounts here, whatever is sent
        refused(answer, 503)
    else:
        assert refused(answer)["details"]["field"]


# N: every numeric field of every operation, with what no such field takes.
def numeric_fields() -> Iterator[tuple[str, Any, str, dict[str, Any]]]:
    """(path, a good body, field or field.field, the field's schema)"""
    for family in families().values():
        for operation in (operation for operation in family.operations if operation.paths):
            example = next(iter(operation.examples.values()))
            good = example[0] if isinstance(example, list) else example
            schema = operation.input.model_json_schema()
            if isinstance(example, list):
                schema = next(s for s in schema["$defs"].values() if set(good) <= set(s.get("properties", {})))
            definitions = operation.input.model_json_schema().get("$defs", {})
            for name, found in schema["properties"].items():
                for option in (found, *found.get("anyOf", ()), *found.get("allOf", ())):
                    if option.get("type") in ("integer", "number"):
                        yield operation.paths[0], example, name, option
                    inner = definitions.get(option.get("$ref", "").rpartition("/")[2], {})
                    for inner_name, inner_found in inner.get("properties", {}).items():
                        for inner_option in (inner_found, *inner_found.get("anyOf", ())):
                            if inner_option.get("type") in ("integer", "number"):
                                yield operation.paths[0], example, f"{name}.{inner_name}", inner_option


def bad_numbers(schema: dict[str, Any]) -> dict[str, str]:
    """JSON texts by what is wrong with them."""
    found = {
        "a string": '"5"',
        "true": "true",
        "an array": "[1]",
        "an object": "{}",
        "NaN": "NaN",
        "-Infinity": "-Infinity",
        "1e400": "1e400",
        "2^63": str(2**63),
    }
    if schema["type"] == "integer":
        found["a fraction"] = "1.5"
    if "minimum" in schema:
        found["too small"] = json.dumps(schema["minimum"] - 1)
    if "maximum" in schema:
        found["too large"] = json.dumps(schema["maximum"] + 1)
    return found


NUMBERS = {
    f"{path} {field} {name}": (path, example, field, text)
    for path, example, field, schema in numeric_fields()
    for name, text in bad_numbers(schema).items()
}


@pytest.mark.hostile("N")
@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(platform: Platform, case: str) -> None:
    path, example, field, text = NUMBERS[case]
    body = copy.deepcopy(example)
    place = body[0] if isinstance(body, list) else body
    *outer, last = field.split(".")
    for name in outer:
        place = place.setdefault(name, {})
    place[last] = RAW
    content = json.dumps(body).replace(f'"{RAW}"', text).encode()
    answer = platform.client.post(path, content=content, headers={"Content-Type": "application/json"})
    told = refused(answer)
    if text not in ("NaN", "-Infinity", "1e400", str(2**63)):  # no JSON at all: there the document is named
        assert last in json.dumps(told["details"])


# H: headers.
HEADERS = {
    "a key of 256": ({"Idempotency-Key": "k" * 256}, 400, "Idempotency-Key"),
    "an empty key": ({"Idempotency-Key": '""'}, 400, "Idempotency-Key"),
    "a key with a space": ({"Idempotency-Key": "a b"}, 400, "Idempotency-Key"),
    "priority 10": ({"X-Priority": "10"}, 400, "X-Priority"),
    "priority -1": ({"X-Priority": "-1"}, 400, "X-Priority"),
    "priority of words": ({"X-Priority": "high"}, 400, "X-Priority"),
    "an Arabic digit": ({"X-Priority": "٣".encode()}, 400, "X-Priority"),
    "a webhook inside": ({"X-Webhook-URL": "https://10.1.2.3/"}, 400, "X-Webhook-URL"),
    "a webhook of a file": ({"X-Webhook-URL": "file:///etc/passwd"}, 400, "X-Webhook-URL"),
    "text": ({"Content-Type": "text/plain"}, 415, None),
    "YAML": ({"Content-Type": "application/yaml"}, 415, None),
    "a form where none is taken": ({"Content-Type": "multipart/form-data; boundary=x"}, 415, None),
    "an urlencoded form": ({"Content-Type": "application/x-www-form-urlencoded"}, 415, None),
    "no type at all": ({"Content-Type": ";;;"}, 415, None),
}


@pytest.mark.hostile("H")
@pytest.mark.parametrize("name", HEADERS)
def test_headers(platform: Platform, name: str) -> None:
    headers, status, field = HEADERS[name]
    sent = {"Content-Type": "application/json", **headers}
    told = refused(platform.client.post("/toys/play", content=b"{}", headers=sent), status)  # type: ignore[arg-type]
    if field:
        assert told["details"]["field"] == field


@pytest.mark.hostile("H")
def test_two_keys(platform: Platform) -> None:
    sent = [("Idempotency-Key", "one"), ("Idempotency-Key", "other")]
    told = refused(platform.client.post("/toys/play", json={}, headers=sent))
    assert told["details"]["field"] == "Idempotency-Key"


WAITS = ["-1", "1.5", "soon", "", "9" * 7, "1e3", "٣", "0x10"]


@pytest.mark.hostile("H")
@pytest.mark.parametrize("wait", WAITS)
def test_waits(platform: Platform, wait: str) -> None:
    assert refused(platform.client.post("/toys/play", params={"wait": wait}, json={}))["details"]["field"] == "wait"


# Sent as they are, without a client that would mend them.
MALFORMED = {
    "no request": b"hello\r\n\r\n",
    "a bad version": b"GET /status/x HTTP/9.9\r\nHost: x\r\n\r\n",
    "NUL in the path": b"GET /jobs\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header without a name": b"GET /jobs HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
    "a header with a line break": b"GET /jobs HTTP/1.1\r\nHost: x\r\nX: a\n\tb\rc\r\n\r\n",
    "a length of words": b"POST /toys/play HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n{}",
    "a negative length": b"POST /toys/play HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}",
    "two lengths": b"POST /toys/play HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "a length and chunks": b"POST /toys/play HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": b"POST /toys/play HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a header of 200 kB": b"GET /jobs HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
}


@pytest.mark.hostile("H")
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests(platform: Platform, name: str) -> None:
    with socket.create_connection(("127.0.0.1", platform.port), timeout=20) as connection:
        connection.sendall(MALFORMED[name])
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while chunk := connection.recv(65_536):
                answer += chunk
        except ConnectionResetError:
            pass
    if answer:
        assert 400 <= int(answer.split()[1]) < 500, answer[:300]
        assert b"Traceback" not in answer


# P: names and ids in paths and queries.
IDS = [
    "0",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "' OR 1=1 --",
    "{01a1f000-0000-7000-8000-000000000000}",
    "01A1F000-0000-7000-8000-00000000000G",
    "01a1f00000007000800000000000000",
    "urn:uuid:01a1f000-0000-7000-8000-000000000000",
    "٠١a1f000-0000-7000-8000-000000000000",
    "x" * 5000,
]


@pytest.mark.hostile("P")
@pytest.mark.parametrize("path", ["/status/{}", "/jobs/{}", "/results/{}", "/status/{}/events", "/webhooks/{}"])
@pytest.mark.parametrize("text", IDS, ids=lambda text: text[:20])
def test_ids(platform: Platform, path: str, text: str) -> None:
    refused(platform.client.get(path.format(text)), 400, 404)


@pytest.mark.hostile("P")
@pytest.mark.parametrize("text", IDS, ids=lambda text: text[:20])
@pytest.mark.parametrize("method", ["cancel", "delete"])
def test_ids_of_writes(platform: Platform, method: str, text: str) -> None:
    if method == "cancel":
        refused(platform.client.post(f"/jobs/{text}/cancel"), 400, 404)
    else:
        refused(platform.client.delete(f"/jobs/{text}"), 400, 404, 405)


NAMES = ["..", "../manifest.json", "%2e%2e%2fmanifest.json", "/etc/passwd", "a\\b", "%00", "x" * 3000, "‮gnp"]


@pytest.mark.hostile("P")
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
def test_names_of_files(platform: Platform, name: str) -> None:
    refused(platform.client.get(f"/results/{new_id()}/files/{name}"), 400, 404)


QUERIES = [
    ("/jobs", {"limit": "0"}, "limit"),
    ("/jobs", {"limit": "101"}, "limit"),
    ("/jobs", {"limit": "ten"}, "limit"),
    ("/jobs", {"before": "yesterday"}, "before"),
    ("/jobs", {"status": "done"}, "status"),
    ("/jobs", {"family": "x" * 101}, "family"),
    ("/jobs", {"family": "%' OR 1=1"}, "family"),
    ("/webhooks/default/deliveries", {"status": "sent"}, "status"),
    ("/webhooks/default/deliveries", {"job_id": "1"}, "job_id"),
    ("/webhooks/default/deliveries", {"limit": "-5"}, "limit"),
]


@pytest.mark.hostile("P")
@pytest.mark.parametrize(("path", "query", "field"), QUERIES)
def test_queries(platform: Platform, path: str, query: dict[str, str], field: str) -> None:
    assert field in json.dumps(refused(platform.client.get(path, params=query))["details"])


METHODS = [
    ("TRACE", "/jobs"),
    ("CONNECT", "/jobs"),
    ("PUT", "/toys/play"),
    ("GET", "/toys/play"),
    ("DELETE", "/status/x"),
    ("POST", "/status/x"),
    ("PATCH", "/jobs/x"),
    ("BREW", "/jobs"),
]


@pytest.mark.hostile("P")
@pytest.mark.parametrize(("method", "path"), METHODS)
def test_methods(platform: Platform, method: str, path: str) -> None:
    answer = platform.client.request(method, path)
    if method == "BREW":  # no method of HTTP at all
        refused(answer, 400)
    else:
        refused(answer, 405)
        assert answer.headers["allow"]


@pytest.mark.hostile("P")
def test_what_an_address_takes_is_told_in_full(platform: Platform) -> None:
    assert platform.client.patch("/jobs/x").headers["allow"] == "DELETE, GET"
    assert platform.client.put("/uploads/x").headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST"
    assert platform.client.post("/health").headers["allow"] == "GET"


# R: more than anybody needs.
def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b" " * MIB


@pytest.mark.hostile("R")
@pytest.mark.parametrize("path", ["/toys/play", "/generate", "/generate/avatar", "/webhooks"])
def test_bodies_of_many_megabytes(platform: Platform, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    announced = platform.client.post(path, content=b" " * (2 * MIB), headers=headers)
    assert refused(announced, 413)["details"]["limit"]
    refused(platform.client.post(path, content=chunks(3), headers=headers), 413)


@pytest.mark.hostile("R")
@pytest.mark.parametrize(
    ("field", "value"),
    [("say", "x" * 999_000), ("steps", 10_001), ("files", 11), ("size", 10**10)],
    ids=lambda value: str(value)[:20],
)
def test_more_than_the_field_takes(platform: Platform, field: str, value: Any) -> None:
    answer = platform.client.post("/toys/play", json={field: value, "webhook_url": "x"})
    assert answer.status_code == 400


@pytest.mark.hostile("R")
def test_a_body_that_never_comes_ends_with_its_connection(platform: Platform) -> None:
    head = b"POST /toys/play HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", platform.port), timeout=20) as connection:
        connection.sendall(head)
    assert platform.client.get("/ready").status_code == 200
