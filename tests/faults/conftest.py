"""One rig for all experiments of a run. `FAULTS=whole` runs the whole set with larger numbers (`make faults`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.history import History
from tests.faults.proxy import Network
from tests.faults.rig import Rig
from tests.faults.servers import Postgres, Receiver, Redis, receiving

WHOLE = os.environ.get("FAULTS") == "whole"
TIMEOUT = 1800 if WHOLE else 900  # seconds an experiment
REPORT = Path(os.environ["FAULTS_REPORT"]) if "FAULTS_REPORT" in os.environ else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Experiments marked `whole` are left out of the small set. All may take their time on a busy machine."""
    for item in items:
        item.add_marker(pytest.mark.timeout(TIMEOUT))
    if WHOLE:
        return
    left_out = [item for item in items if item.get_closest_marker("whole")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def size() -> Callable[[Any, Any], Any]:
    """The first number in the small set, the second in the whole one."""
    return lambda small, large: large if WHOLE else small


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def whole_rig(
    tmp_path_factory: pytest.TempPathFactory,
    network: Network,
    postgres: Postgres,
    redis: Redis,
    receiver: Receiver,
) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("rig"), network, postgres.database("faults"), redis, receiver)
    try:
        rig.start()
        rig.register_receiver()
        yield rig
    finally:
        rig.close()


@pytest.fixture
def rig(whole_rig: Rig) -> Iterator[Rig]:
    """All of it running and nothing broken."""
    whole_rig.heal()
    yield whole_rig
    whole_rig.mend()


@pytest.fixture
def history(rig: Rig, request: pytest.FixtureRequest) -> Iterator[History]:
    """The experiment's clients; its title is the first line of the test's docstring."""
    title = (request.function.__doc__ or request.node.name).split("\n")[0]
    if case := getattr(request.node, "callspec", None):
        title = f"{title} ({case.id})"
    history = History(rig, title=title, whole=WHOLE, report=REPORT)
    yield history
    history.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Say where the logs are, if an experiment fails; one that cannot be done here fails the whole set."""
    report = yield
    if WHOLE and report.skipped:
        assert call.excinfo is not None
        report.outcome, report.longrepr = "failed", f"{item.nodeid} was not done: {call.excinfo.value}"
    if report.failed and isinstance(rig := getattr(item, "funcargs", {}).get("rig"), Rig):
        report.sections.append(("the platform's logs", str(rig.folder)))
    return report
