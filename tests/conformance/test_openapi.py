"""schemathesis over the OpenAPI: no 5xx, no undocumented status, every answer as its schema says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

import tests.conformance.media_types  # noqa: F401  (registers them)
from services.gateway.app import make_app
from shared.settings import get_settings
from tests.conformance.shown_models import MODELS
from tests.platform import Platform
from workers.families import families

DONE, UNKNOWN = "0199a7f0-0000-7000-8000-00000000000a", "0199a7f0-0000-7000-8000-00000000000b"
ROWS = (
    MODELS
    + """
INSERT INTO jobs (id, owner, family, operation, input, state, turn, attempt, result_attempt, output, manifest,
                  started_at, finished_at)
VALUES (%s, 'anonymous', 'toy', 'toy.play', '{}', 'completed', 1, 1, 1, '{"said": "", "steps": 0, "files": 0}', '[]',
        now(), now());
INSERT INTO uploads (id, owner, content, length, reserved, expires_at)
VALUES (%s, 'anonymous', %s, 1000000, 1000000, now() + interval '1 day');
"""
)


def document() -> dict[str, Any]:
    """The OpenAPI; half of the ids are real, else every answer would be a 404."""
    found = make_app(get_settings(), families()).openapi()
    for path in found["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in ("job_id", "upload_id"):
                    parameter["schema"] = {"type": "string", "enum": [DONE, UNKNOWN]}
    return found


SCHEMA = schemathesis.openapi.from_dict(document())
# The event stream of a queued job does not end by itself; it has tests of its own.
OPERATIONS = [
    operation
    for result in SCHEMA.get_all_operations()
    if not (operation := result.ok()).path.endswith("/events") and operation.method.upper() != "DELETE"
]


@pytest.fixture(scope="module")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The gateway and a worker for toys; pictures stay queued, whatever sizes are asked for."""
    more = {"ATELIER_MAX_WAIT": "1", "ATELIER_IMPORT_DIR": str(tmp_path_factory.mktemp("import"))}
    platform = Platform({**environment, **more}, tmp_path_factory.mktemp("logs"))
    connection = psycopg2.connect(environment["DATABASE_URL"])
    with connection, connection.cursor() as cursor:
        cursor.execute(ROWS, (DONE, DONE, DONE))
    connection.close()
    try:
        yield platform.start("gateway")
    finally:
        platform.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_documented(operation: Any, served: Platform) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=int(os.environ.get("SCHEMATHESIS_EXAMPLES", "40")),
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def check(case: Any) -> None:
        # Which models exist, and which cursors were given out, no schema can say: such a 400 is right.
        case.call_and_validate(base_url=str(served.client.base_url), excluded_checks=[positive_data_acceptance])

    check()


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_loads_nothing_from_elsewhere(page: str, served: Platform) -> None:
    html = served.client.get(page).text
    needed = re.findall(r'(?:src|href|spec-url)="([^"]+)"|url: \'([^\']+)\'', html)
    addresses = {first or second for first, second in needed}
    assert "/openapi.json" in addresses
    assert any(address.endswith(".js") for address in addresses)
    for address in addresses:
        assert address.startswith("/"), address
        assert served.client.get(address).status_code == 200
