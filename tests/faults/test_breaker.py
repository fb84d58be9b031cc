"""What breaks everything that it touches is set aside for a while: a model, a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.faults.history import History
from tests.faults.load import WORK, submit
from tests.faults.rig import Rig
from tests.platform import wait_until

COORDINATORS = ("coordinator-1", "coordinator-2")
OPENINGS = "SELECT openings FROM breakers WHERE model = 'brittle' AND closed_at IS NULL"
ASIDE = "SELECT 1 FROM quarantines WHERE until > now()"
HEEDED = "this device is set aside"
FORGOTTEN = "UPDATE workers SET state = 'stopped' WHERE name NOT LIKE %s"  # killed ones seem to live for half a minute
TAKEN = "SELECT 1 FROM moves WHERE job = ANY(%s::uuid[]) AND state = 'running' AND lease_owner LIKE %s"


def test_a_model_that_crashes_every_job(rig: Rig, history: History, tmp_path: Path) -> None:
    """A model that crashes whatever runs with it, among good jobs of another one; then it is mended"""
    rule = {"ATELIER_BREAKER_JOBS": "3", "ATELIER_BREAKER_PAUSE_SECONDS": "2"}
    rig.start("worker-1", "worker-2", *COORDINATORS, **rule)
    history.excused = {503}
    client, mended = history.client(), tmp_path / "mended"
    brittle = {"model": "brittle", "fail": "crash", "mended": str(mended)}
    rig.broke()
    broken = submit(history, 5, **brittle)
    good = submit(history, 6)
    wait_until(lambda: _openings(rig) > 0, 60, "the model to be paused")

    asked = {"gateway": 0, "json": WORK | brittle}
    told = lambda: client.ask("POST", "/toys/play", **asked)  # noqa: E731
    refusal = wait_until(lambda: (answer := told())[0] == 503 and answer[1], 60, "a refusal")
    problem = refusal.json()
    assert (problem["error"], problem["details"]["model"]) == ("model_paused", "brittle")
    assert problem["details"]["reason"] == "worker_lost"
    assert int(refusal.headers["Retry-After"]) > 0
    health = _told(rig, "/health")
    assert (health["status"], [paused["model"] for paused in health["paused_models"]]) == ("degraded", ["brittle"])
    wait_until(lambda: "model_paused" in {client.status(job)["waits_for"] for job in broken}, 60, "a reason to wait")
    good += submit(history, 4)
    wait_until(lambda: {history.states()[job] for job in good} == {"completed"}, 60, "the good jobs")
    wait_until(lambda: _openings(rig) > 1, 60, "a probe that crashed")

    mended.touch()
    history.ended()
    assert set(history.states().values()) == {"completed"}
    wait_until(lambda: not _openings(rig), 60, "the model to be used again")
    submit(history, 1, **brittle)
    history.verify()


def test_a_device_that_breaks_down(rig: Rig, history: History, tmp_path: Path) -> None:
    """Two faults of a device: it is set aside, also when its worker is started again, until its time is over"""
    rule = {"ATELIER_QUARANTINE_SECONDS": "600"}
    mended, faulty = tmp_path / "mended", rig["worker-1"]
    rig["worker-2"].kill()
    rig.start("worker-1", DEVICE="cpu:1", **rule)
    rig.broke()
    submit(history, 1, fail="fault", mended=str(mended))
    wait_until(lambda: rig.postgres.rows(ASIDE), 60, "the quarantine")
    wait_until(lambda: HEEDED in faulty.said(), 60, "worker-1 to heed it")
    mended.touch()
    rig.broke()
    faulty.kill()
    faulty.again()
    wait_until(lambda: HEEDED in faulty.said(), 60, "worker-1 to heed it anew")
    with rig.postgres.cursor() as cursor:
        cursor.execute(FORGOTTEN, (f"%-{faulty.pid}",))
    assert _told(rig, "/ready")["families_without_workers"] == ["toy"]
    health = _told(rig, "/health")
    assert (health["status"], health["quarantined_devices"][0]["device"]) == ("degraded", "cpu:1")

    rig.start("worker-2")
    submit(history, 6)
    history.ended()
    assert not rig.postgres.rows(TAKEN, history.jobs, f"%-{faulty.pid}/%")
    assert _told(rig, "/ready")["families_without_workers"] == []

    rig["worker-2"].kill()
    with rig.postgres.cursor() as cursor:
        cursor.execute("UPDATE quarantines SET until = now()")
    submit(history, 2)
    history.ended()
    assert set(history.states().values()) == {"completed"}
    history.verify()


def _openings(rig: Rig) -> int:
    found = rig.postgres.rows(OPENINGS)
    return int(found[0][0]) if found else 0


def _told(rig: Rig, path: str) -> dict[str, Any]:
    return dict(httpx.get(rig.url("gateway-1") + path, timeout=30).json())
