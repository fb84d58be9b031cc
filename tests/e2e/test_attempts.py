"""Records of attempts through the real processes: toys that die in every way, and who is shown what of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.accounts import AUTH, Person, login, register
from tests.platform import Platform, wait_until
from workers.runtime import memory_peak

LOUD = {"LOG_LEVEL": "INFO", "ATELIER_LOG_INPUTS": "start"}
ONCE = {"ATELIER_MAX_CRASHES": "1"}  # a second process would tell the same
SECRET = "sk_abcdefghZq9vXk3wPz7mZq9vXk3wPz7mZq9vXk3wPz7m"
OWNERS = {"number", "started_at", "ended_at", "outcome", "error"}


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With accounts; its client is ada's."""
    platform = Platform(environment | AUTH | LOUD | ONCE, tmp_path_factory.mktemp("logs"))
    try:
        platform.start("gateway", "coordinator")
        platform.client.headers.update(register(platform.client, "ada").headers)
        yield platform.start("worker")
    finally:
        platform.close()


@pytest.fixture(scope="module")
def admin(platform: Platform) -> Person:
    return login(platform.client, "operator")


@pytest.fixture
def records(platform: Platform, admin: Person) -> Any:
    """What an admin is shown of a job's attempts."""

    def read(job: str) -> list[dict[str, Any]]:
        answer = platform.client.get(f"/jobs/{job}/attempts", headers=admin.headers)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["attempts"]
        return found

    return read


@pytest.mark.parametrize(
    ("fail", "how"),
    [("segfault", {"signal": 11}), ("crash", {"signal": 9}), ("exit", {"exit_code": 7})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_process_that_dies_leaves_how_and_what_it_said(
    platform: Platform, records: Any, fail: str, how: dict[str, int]
) -> None:
    job = platform.submit(fail=fail)
    ended = platform.finished(job)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "worker_lost")
    (entry,) = records(job)
    assert (entry["number"], entry["outcome"], entry["counted"], entry["device"]) == (1, "lost", True, "cpu")
    assert {name: entry[name] for name in ("signal", "exit_code") if name in entry} == how
    assert f"-{platform.processes['worker'].pid}/" in entry["worker"]
    assert "attempt started" in entry["lines"][0]
    if fail == "segfault":
        said = "\n".join(entry["lines"])
        assert "Fatal Python error: Segmentation fault" in said
        assert "string_at" in said


def test_what_the_owner_is_shown_holds_no_internals(platform: Platform, records: Any) -> None:
    job = platform.submit(fail="tell", say=SECRET)
    ended = platform.finished(job)
    assert (ended["status"], ended["attempt"]) == ("failed", 3)
    shown = platform.client.get(f"/jobs/{job}").json()
    assert [set(entry) for entry in shown["attempts"]] == [OWNERS] * 3
    assert [entry["outcome"] for entry in shown["attempts"]] == ["retried", "retried", "failed"]
    assert shown["attempts"][-1]["error"] == ended["error"]
    assert shown["attempts"][-1]["ended_at"] == ended["finished_at"]
    assert {name: shown[name] for name in ended} == ended
    last = records(job)[-1]
    said = "\n".join(last["lines"])
    assert last["worker"] not in str(shown)
    assert "RuntimeError" in said
    assert "RuntimeError" not in str(shown)
    assert SECRET not in str(records(job))
    assert platform.client.get(f"/jobs/{job}/attempts").status_code == 403


@pytest.mark.skipif(memory_peak.peak() is None, reason="this kernel does not let a process forget its peak")
def test_a_peak_is_the_attempts_own(platform: Platform, records: Any) -> None:
    large, small = platform.submit(allocate=300_000_000), platform.submit()
    for job in (large, small):
        assert platform.finished(job)["status"] == "completed"
    (of_large,), (of_small,) = records(large), records(small)
    assert of_large["memory_bytes"] > of_small["memory_bytes"] + 250_000_000
    assert (of_large["outcome"], "lines" in of_large) == ("completed", False)


def test_who_may_read_logs_is_shown_all_of_an_own_job(platform: Platform, admin: Person) -> None:
    job = platform.submit(headers=admin.headers)
    wait_until(lambda: platform.client.get(f"/jobs/{job}", headers=admin.headers).json()["attempts"])
    (entry,) = platform.client.get(f"/jobs/{job}", headers=admin.headers).json()["attempts"]
    assert entry["worker"]
    assert entry["device"] == "cpu"


def test_of_a_machine_that_went_away_only_what_is_known_is_told(platform: Platform, records: Any) -> None:
    job = platform.submit(steps=10_000, step_seconds=0.05)
    platform.running(job)
    worker = platform.processes["worker"].pid
    os.killpg(worker, signal.SIGKILL)
    (entry,) = wait_until(lambda: records(job))
    assert (entry["outcome"], entry["device"], entry["counted"]) == ("lost", "cpu", True)
    assert f"-{worker}/" in entry["worker"]
    assert not {"exit_code", "signal", "memory_bytes", "lines"} & set(entry)
    shown = platform.client.get(f"/jobs/{job}").json()
    assert (shown["status"], [set(entry) for entry in shown["attempts"]]) == ("failed", [OWNERS])
