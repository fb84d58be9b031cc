"""Batches and time limits through the real processes: a poison job among eight, and clients that wait too long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.test_accounts import execute
from tests.platform import Platform, wait_until


@pytest.fixture(scope="module")
def platform(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With the choir, and a reaper that is too slow to help."""
    choir = {"ATELIER_EXTRA_FAMILIES": "tests.toys.choir", "ATELIER_REAP_SECONDS": "600", "ATELIER_FAMILIES": "choir"}
    platform = Platform(environment | choir, tmp_path_factory.mktemp("logs"))
    try:
        yield platform.start()
    finally:
        platform.close()


@pytest.fixture
def busy(platform: Platform) -> Iterator[str]:
    """A job that keeps the worker busy until it is cancelled."""
    job = platform.submit("/choir/sing", solo=True, steps=10_000, step_seconds=0.05)
    platform.running(job)
    yield job
    platform.client.post(f"/jobs/{job}/cancel")
    platform.finished(job)


def test_a_poison_job_fails_and_the_rest_of_its_batch_completes(platform: Platform, busy: str) -> None:
    jobs = [platform.submit("/choir/sing", say=str(n), fail="crash" if n == 3 else "") for n in range(8)]
    other = platform.submit("/choir/sing", voice="bass")
    platform.client.post(f"/jobs/{busy}/cancel")
    ended = [platform.finished(job) for job in jobs]
    assert [job["status"] for job in ended] == ["completed"] * 3 + ["failed"] + ["completed"] * 4
    assert ended[3]["error"]["code"] == "worker_lost"
    assert platform.finished(other)["attempt"] == 1, "another model's job is no companion"
    counted = dict(execute(platform.environment, "SELECT id::text, crashes FROM jobs WHERE batch_key IS NULL"))
    assert [counted[job] for job in jobs] == [0, 0, 0, 2, 0, 0, 0, 0]
    assert {ended[n]["attempt"] for n in (0, 1, 2, 4, 5, 6, 7)} == {2}
    together = platform.client.post("/sync/choir/sing", json={"say": "alone"}).json()["together"]
    assert together == 1


def timed_out(platform: Platform, headers: dict[str, str] | None = None, **body: object) -> str:
    """The id of a job that was waited for in vain."""
    answer = platform.client.post("/sync/choir/sing", json=body, headers=headers)
    assert answer.status_code == 504, answer.text
    told = answer.json()
    assert (told["error"], told["message"]) == ("timeout", "Request timed out")
    return str(told["details"]["job_id"])


def test_a_waiting_client_hears_that_its_running_job_timed_out(platform: Platform) -> None:
    job = timed_out(platform, steps=10_000, step_seconds=0.05, timeout=1)
    ended = platform.finished(job, 5)
    assert (ended["status"], ended["error"]["code"]) == ("expired", "deadline")
    assert ended["step"] is None or ended["step"] < 10_000


def test_a_job_that_works_on_past_its_time_has_no_result(platform: Platform) -> None:
    job = timed_out(platform, {"Idempotency-Key": "late"}, steps=1, step_seconds=2, timeout=0.5)
    assert platform.status(job)["status"] == "running"
    assert platform.finished(job)["status"] == "expired"
    again = timed_out(platform, {"Idempotency-Key": "late"}, steps=1, step_seconds=2, timeout=0.5)
    assert again == job


def test_a_queued_job_expires_with_the_answer(platform: Platform, busy: str) -> None:
    job = timed_out(platform, {"Prefer": "wait=1"}, timeout=1)
    ended = platform.status(job)
    assert (ended["status"], ended["attempt"], ended["error"]["code"]) == ("expired", 0, "deadline")


def test_who_is_less_patient_than_the_limit_gets_the_202(platform: Platform, busy: str) -> None:
    answer = platform.client.post("/choir/sing?wait=1", json={"timeout": 600})
    assert answer.status_code == 202
    assert platform.status(answer.json()["job_id"])["status"] == "queued"


def test_what_is_done_in_time_is_answered(platform: Platform) -> None:
    answer = platform.client.post("/sync/choir/sing", json={"say": "in time", "timeout": 60})
    assert (answer.status_code, answer.json()["sung"]) == (200, "in time")
    wait_until(lambda: not execute(platform.environment, "SELECT 1 FROM jobs WHERE state IN ('queued', 'running')"))
