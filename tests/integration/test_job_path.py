"""A job's path through the real processes: what a client meets."""

from __future__ import annotations

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import redis

from tests.garbage import GARBAGE, QUEUE
from tests.platform import Platform, wait_until
from tests.toys.runner import content


def test_a_job_goes_from_202_to_verified_bytes(platform: Platform) -> None:
    answer = platform.client.post("/toys/play", json={"files": 2, "size": 3_000_000, "seed": 7, "say": "hé"})
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["request_id"] == accepted["job_id"]
    assert answer.headers["location"] == accepted["status_url"]
    status = platform.finished(accepted["job_id"])
    assert status["status"] == "completed"
    assert status["progress"] == 100
    archive = zipfile.ZipFile(io.BytesIO(platform.client.get(accepted["result_url"]).content))
    assert archive.testzip() is None
    assert archive.namelist() == ["manifest.json", "file_0.bin", "file_1.bin"]
    assert archive.read("file_1.bin") == content(8, 3_000_000)
    assert json.loads(archive.read("manifest.json"))["output"]["said"] == "hé"


def test_waiting_gets_the_synchronous_reply(platform: Platform) -> None:
    answer = platform.client.post("/toys/play", json={"say": "now"}, headers={"Prefer": "wait=20"})
    assert answer.status_code == 200
    assert answer.json()["said"] == "now"
    assert answer.headers["preference-applied"] == "wait=20"
    assert platform.client.post("/sync/toys/play", json={"say": "sync"}).json()["said"] == "sync"
    assert platform.client.post("/toys/play?wait=20", json={"say": "query"}).json()["said"] == "query"
    asynchronous = platform.client.post("/sync/toys/play", json={}, headers={"Prefer": "respond-async"})
    assert asynchronous.status_code == 202
    assert asynchronous.json()["status_url"].startswith("/sync/status/")


def test_a_path_may_hold_a_field_and_a_202_what_the_operation_adds(platform: Platform) -> None:
    answer = platform.client.post("/toys/h%C3%A9/play", json={})
    assert answer.status_code == 202
    assert answer.json()["toy_id"] == answer.json()["job_id"]
    assert answer.json()["will_say"] == "hé"
    assert platform.client.post("/sync/toys/you/play", json={"say": "you"}).json()["said"] == "you"
    other = platform.client.post("/toys/you/play", json={"say": "me"})
    assert other.status_code == 400
    assert other.json()["details"]["field"] == "say"
    document = platform.client.get("/openapi.json").json()
    post = document["paths"]["/toys/{say}/play"]["post"]
    assert [p["name"] for p in post["parameters"] if p["in"] == "path"] == ["say"]
    reference = post["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert "say" not in document["components"]["schemas"][reference.rsplit("/", 1)[1]]["properties"]


def test_garbage_among_the_doorbells_costs_no_worker_its_models(platform: Platform, redis_url: str) -> None:
    platform.finished(platform.submit())
    child = platform.child().pid
    with redis.Redis.from_url(redis_url) as client:
        for garbage in GARBAGE:
            client.rpush(QUEUE, garbage)
            client.publish("/0.celery.pidbox", garbage)
        wait_until(lambda: not client.llen(QUEUE), 30, "the end of the garbage")
    assert platform.finished(platform.submit())["status"] == "completed"
    assert platform.processes["worker"].poll() is None
    assert platform.child().pid == child


def test_a_wait_that_is_too_short_answers_202_and_the_job_goes_on(platform: Platform) -> None:
    answer = platform.client.post("/toys/play?wait=1", json={"steps": 15, "step_seconds": 0.1})
    assert answer.status_code == 202
    assert platform.finished(answer.json()["job_id"])["status"] == "completed"


def test_progress_tells_steps_and_seconds(platform: Platform) -> None:
    job_id = platform.submit(steps=20, step_seconds=0.1, preview=True)
    events = []
    with platform.client.stream("GET", f"/status/{job_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
    assert events[-1]["status"] == "completed"
    steps = [event["step"] for event in events if event["step"]]
    assert steps == sorted(steps)
    assert len(set(steps)) >= 5
    middle = next(event for event in events if event["step"] and event["step"] >= 8)
    assert middle["phase"] == "running"
    assert middle["total_steps"] == 20
    assert 0.3 < middle["estimated_remaining"] < 4
    assert middle["preview"].startswith("data:image/jpeg;base64,")


def test_cancel_of_a_running_job_takes_effect_at_the_next_step(platform: Platform) -> None:
    job_id = platform.submit(steps=300, step_seconds=0.1)
    platform.running(job_id)
    assert platform.client.post(f"/jobs/{job_id}/cancel").status_code == 202
    assert platform.finished(job_id, 3)["status"] == "cancelled"
    again = platform.client.post(f"/jobs/{job_id}/cancel")
    assert again.status_code == 409
    assert again.json()["error"] == "job_finished"
    assert platform.client.get(f"/results/{job_id}").status_code == 409
    assert platform.client.post("/sync/toys/play", json={"say": "healthy"}).json()["said"] == "healthy"


def test_cancel_of_a_queued_job_is_immediate(platform: Platform) -> None:
    blocking = platform.submit(steps=20, step_seconds=0.1)
    queued = platform.submit()
    answer = platform.client.post(f"/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert platform.finished(blocking)["status"] == "completed"
    assert platform.status(queued)["status"] == "cancelled"


def test_the_inputs_fault_fails_at_once_and_a_bug_is_retried_without_telling_secrets(platform: Platform) -> None:
    refused = platform.finished(platform.submit(fail="input"))
    assert (refused["status"], refused["error"]["code"], refused["attempt"]) == ("failed", "input_rejected", 1)
    bug = platform.finished(platform.submit(fail="bug"))
    assert (bug["status"], bug["error"]["code"], bug["attempt"]) == ("failed", "internal", 3)
    assert "secret" not in str(bug)
    assert platform.finished(platform.submit(fail="once"))["status"] == "completed"


def test_a_failed_job_that_is_waited_for_answers_its_error(platform: Platform) -> None:
    answer = platform.client.post("/sync/toys/play", json={"fail": "input"})
    assert answer.status_code == 409
    assert answer.json()["message"] == "This toy was told to refuse its input."


def test_one_idempotency_key_makes_one_job(platform: Platform) -> None:
    def post(_: int) -> tuple[str, str | None]:
        answer = platform.client.post("/toys/play", json={"say": "once"}, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 202, answer.text
        return answer.json()["job_id"], answer.headers.get("idempotent-replayed")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(50)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert [replayed for _, replayed in answers].count(None) == 1
    other = platform.client.post("/toys/play", json={"say": "other"}, headers={"Idempotency-Key": '"k1"'})
    assert (other.status_code, other.json()["error"]) == (422, "idempotency_key_reused")


def test_higher_priority_goes_first_and_owners_list_their_jobs(platform: Platform) -> None:
    blocking = platform.submit(steps=10, step_seconds=0.1)
    low = platform.submit()
    high = platform.submit(priority=9)
    header = platform.submit(headers={"X-Priority": "5"})
    assert platform.status(low)["queue_position"] >= 3
    ended = {job: platform.finished(job)["finished_at"] for job in (blocking, low, high, header)}
    assert ended[high] < ended[header] < ended[low]
    page = platform.client.get("/jobs", params={"limit": 2}).json()
    assert [job["job_id"] for job in page["jobs"]] == [header, high]
    older = platform.client.get("/jobs", params={"before": page["next"], "limit": 1}).json()
    assert older["jobs"][0]["job_id"] == low


def test_a_deleted_job_is_unknown_and_a_live_one_is_kept(platform: Platform) -> None:
    live = platform.submit(steps=10, step_seconds=0.1)
    assert platform.client.delete(f"/jobs/{live}").json()["error"] == "job_live"
    platform.finished(live)
    assert platform.client.delete(f"/jobs/{live}").status_code == 204
    for address in (f"/status/{live}", f"/results/{live}", f"/jobs/{live}"):
        assert platform.client.get(address).status_code == 404


def test_the_key_of_a_deleted_job_does_not_make_it_again(platform: Platform) -> None:
    headers = {"Idempotency-Key": "gone"}
    made = platform.client.post("/toys/play", json={}, headers=headers | {"Prefer": "wait=30"})
    assert made.status_code == 200
    newest = platform.client.get("/jobs").json()["jobs"][0]["job_id"]
    assert platform.client.delete(f"/jobs/{newest}").status_code == 204
    for preference in ("respond-async", "wait=5"):
        again = platform.client.post("/toys/play", json={}, headers=headers | {"Prefer": preference})
        assert (again.status_code, again.json()["error"]) == (410, "gone")


def test_metrics_count(platform: Platform) -> None:
    before = platform.client.get("/metrics").json()["jobs_accepted"]
    platform.finished(platform.submit())
    assert platform.client.get("/metrics").json()["jobs_accepted"] == before + 1
    text = platform.client.get("/metrics", headers={"Accept": "text/plain"}).text
    assert 'atelier_jobs_accepted_total{operation="toy.play"}' in text
    assert 'route="/status/{job_id}"' in text


def test_models_that_nobody_has_are_refused(platform: Platform) -> None:
    wait_until(lambda: platform.client.get("/models/status").json()["models"])
    answer = platform.client.post("/generate", json={"prompt": "x", "model": "no-such"})
    assert (answer.status_code, answer.json()["details"]["field"]) == (400, "model")


def test_a_stopping_gateway_lets_its_waiters_go(platform: Platform) -> None:
    with ThreadPoolExecutor(2) as pool:
        body = {"steps": 300, "step_seconds": 0.05}
        waiting = pool.submit(platform.client.post, "/toys/play?wait=60", json=body)
        job = wait_until(lambda: platform.client.get("/jobs", params={"status": "running"}).json()["jobs"])[0]
        lines: list[str] = []

        def follow() -> None:
            with platform.client.stream("GET", job["events_url"]) as stream:
                lines.extend(stream.iter_lines())

        following = pool.submit(follow)
        wait_until(lambda: platform.client.get("/metrics").json())
        platform.running(job["job_id"])
        assert platform.terminate("gateway") in (0, -15), "uvicorn ends by the signal that it was sent"
        assert waiting.result(10).status_code == 202, "the job goes on; the client can ask again"
        following.result(10)
    assert "event: reconnect" in lines
    platform.start("gateway")
    platform.client.post(f"/jobs/{job['job_id']}/cancel")
    assert platform.finished(job["job_id"])["status"] == "cancelled"


def test_nothing_is_accepted_while_results_cannot_be_stored(platform: Platform, storage_url: str) -> None:
    folder = Path(urlsplit(storage_url).path)
    aside = folder.rename(folder.with_name("aside"))
    folder.write_text("not a folder")
    refused = wait_until(lambda: (a := platform.client.post("/toys/play", json={})).status_code == 503 and a, 30)
    assert refused.json()["error"] == "unavailable"
    assert int(refused.headers["retry-after"]) > 0
    assert platform.client.get("/ready").status_code == 503
    assert platform.client.get("/health").json()["checks"]["storage"]["ok"] is False
    folder.unlink()
    aside.rename(folder)
    wait_until(lambda: platform.client.post("/toys/play", json={}).status_code == 202, 30)
    assert platform.client.get("/ready").status_code == 200


def test_jobs_are_told_of_while_nobody_can_submit(platform: Platform, database_url: str) -> None:
    """What reads has connections of its own: submits that wait for a lock hold up only each other."""
    known = platform.submit()
    platform.finished(known)
    with ThreadPoolExecutor(40) as pool, closing(psycopg2.connect(database_url)) as db, db.cursor() as cursor:
        cursor.execute("LOCK TABLE idempotency_keys")
        keys = [{"Idempotency-Key": f"waits-{number}"} for number in range(40)]
        posts = [pool.submit(platform.client.post, "/toys/play", json={}, headers=key) for key in keys]
        for path in (f"/status/{known}", f"/jobs/{known}", f"/results/{known}", "/jobs", "/ready"):
            wait_until(lambda: _somebody_waits(cursor), what="a submit that waits")
            assert platform.client.get(path).status_code == 200
        assert not all(post.done() for post in posts)
        db.rollback()
        assert {post.result().status_code for post in posts} <= {202, 409, 503}
    assert platform.finished(platform.submit())["status"] == "completed"


def _somebody_waits(cursor: Any) -> bool:
    cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    return bool(cursor.fetchone()[0])
