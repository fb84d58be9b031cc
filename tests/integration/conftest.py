from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.platform import Platform


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Gateway, coordinator and worker with the toy family."""
    platform = Platform(environment, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()
