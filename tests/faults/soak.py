"""`python -m tests.faults.soak --minutes 20 [--seed N]`: everything breaks by chance while people work; what grows?

The same seed throws the same faults in the same order. Time is cut into chapters: at the end of each nothing is broken,
the jobs of that chapter are judged while the next one's people already work, and forgotten, so that the judge itself
does not grow. Faults that kill processes hit the first of each kind; the second ones live as long as the run, and meet
only servers that fail. Ends with 1 if any promise was broken.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from shared.storage.open import open_storage
from tests.faults import slopes, test_postgres, test_redis
from tests.faults.history import History, Violation
from tests.faults.load import Fault
from tests.faults.people import Person
from tests.faults.proxy import Network
from tests.faults.rig import Rig
from tests.faults.servers import Postgres, Redis, receiving

CHAPTER = 60.0  # seconds
PEOPLE, PAUSE = 6, 0.8  # about five jobs a second
LONGEST = 8.0  # seconds of a fault
SETTINGS = {"ATELIER_STALL_SECONDS": "3"}  # hung toys hold their worker no longer
TABLES = """
SELECT relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid) FROM pg_stat_user_tables
WHERE relname <> 'moves' AND n_live_tup + n_dead_tup > 0 ORDER BY 4 DESC
"""
NAMED = "SELECT entry ->> 'key' FROM jobs, jsonb_array_elements(manifest) entry WHERE deleted_at IS NULL"


def child_killed(rig: Rig, seconds: float) -> None:
    rig["worker-1"].child().kill()


def child_frozen(rig: Rig, seconds: float) -> None:
    child = rig["worker-1"].child()
    child.suspend()
    time.sleep(seconds)
    child.resume()


def killed(name: str) -> Fault:
    return lambda rig, seconds: rig[name].signal(signal.SIGKILL, group=True)


def sent_away(name: str) -> Fault:
    return lambda rig, seconds: rig[name].signal(signal.SIGTERM)


def frozen(name: str) -> Fault:
    def fault(rig: Rig, seconds: float) -> None:
        with rig[name].stopped():
            time.sleep(seconds)

    return fault


def faults() -> dict[str, Fault]:
    """All that may happen, by name."""
    found: dict[str, Fault] = {"worker's child killed": child_killed, "worker's child frozen": child_frozen}
    for kind in ("worker", "coordinator", "gateway"):
        found |= {f"{kind} {how.__name__}": how(f"{kind}-1") for how in (killed, sent_away, frozen)}
    for server, experiments in (("Redis", test_redis.FAULTS), ("Postgres", test_postgres.FAULTS)):
        for experiment in experiments:
            fault = experiment.values[0] if hasattr(experiment, "values") else experiment
            found[f"{server} {fault.__name__}"] = fault
    return found


def plan(seed: int) -> Iterator[tuple[float, str, float]]:
    """What happens: after which pause, what, for how long; each fault once in each shuffled round."""
    chance, names = random.Random(seed), sorted(faults())
    while True:
        for name in chance.sample(names, len(names)):
            yield chance.uniform(1, 8), name, chance.uniform(1, LONGEST)


@dataclass
class Soak:
    """One run; `violations` are all that were found."""

    rig: Rig
    seed: int
    sampler: slopes.Sampler
    jobs: int = 0
    thrown: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        known, to_come = faults(), plan(self.seed)
        end, chapter = time.monotonic() + seconds, 0
        people = self._people(History(self.rig), chapter)
        while time.monotonic() < end:
            until = min(end, time.monotonic() + CHAPTER)
            while time.monotonic() < until:
                pause, name, how_long = next(to_come)
                time.sleep(pause)
                self.rig.supervise()
                self.rig.broke()
                with suppress(ProcessLookupError):  # it was on its way out
                    known[name](self.rig, how_long)
                self.thrown[name] += 1
                self.rig.supervise()
            self.rig.mend()
            before, chapter = people, chapter + 1
            people = self._people(History(self.rig), chapter) if time.monotonic() < end else []
            self._close(before, chapter)

    def _people(self, history: History, chapter: int) -> list[Person]:
        history.excused = {"lost", 503}
        people = [Person(history, self.seed + 1000 * chapter + number, PAUSE) for number in range(PEOPLE)]
        for person in people:
            person.start()
        return people

    def _close(self, people: list[Person], chapter: int) -> None:
        """The chapter's people leave; judge what they were told, and forget it."""
        for person in people:
            person.leave()
        for person in people:
            person.join()
        history = people[0].history
        found = [Violation("I10", None, f"{p.name}: {p.problem!r}") for p in people if p.problem]
        found += history.judge()
        for violation in found:
            print(f"  {violation}")
        events = "SELECT event_id::text FROM deliveries WHERE job_id = ANY(%s::uuid[])"
        assert self.rig.receiver is not None
        for (event,) in self.rig.postgres.rows(events, history.jobs):
            self.rig.receiver.copies.pop(event, None)
        with self.rig.postgres.cursor() as cursor:
            cursor.execute("DELETE FROM moves WHERE job = ANY(%s::uuid[])", (history.jobs,))
        history.close()
        self.jobs += len(history.jobs)
        self.violations += found
        told = Counter(history.states().values())
        print(f"chapter {chapter}: {len(history.jobs)} jobs {dict(told)}, {len(found)} violations", flush=True)

    def leftovers(self) -> list[str]:
        """Files of the storage that no job names."""
        named = {key for (key,) in self.rig.postgres.rows(NAMED)}
        storage = open_storage(self.rig.storage_url, None)
        return sorted(key for key in storage.list("results") if key not in named and "/input/" not in key)

    def report(self, warm_up: float) -> str:
        """What was thrown, and what grew."""
        tables = [f"{'table':24} {'rows':>8} {'dead':>8} {'KiB':>8}"]
        for name, live, dead, size in self.rig.postgres.rows(TABLES):
            tables.append(f"{name:24} {live:8,} {dead:8,} {size / 1024:8,.0f}")
        with redis.Redis.from_url(self.rig.redis.url) as client:
            used, keys = client.info("memory")["used_memory"], client.dbsize()
        left = self.leftovers()
        return "\n".join(
            [
                "",
                f"seed {self.seed}: {self.jobs:,} jobs, {self.thrown.total()} faults, "
                f"{len(self.violations)} violations",
                *(f"  {count:3} × {name}" for name, count in sorted(self.thrown.items())),
                "",
                slopes.table(slopes.growth(self.sampler.lives, warm_up)),
                "",
                *tables,
                "",
                f"Redis holds {used / 1024:,.0f} KiB in {keys} keys; {len(left)} files of the storage belong to no job",
                *(f"  {key}" for key in left[:10]),
            ]
        )


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    """All of it, on servers of its own."""
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        postgres, broker = Postgres(folder / "postgres"), Redis(folder / "redis")
        stack.callback(postgres.stop)
        stack.callback(broker.stop)
        receiver = stack.enter_context(receiving())
        (folder / "rig").mkdir()
        rig = Rig(folder / "rig", network, postgres.database("soak"), broker, receiver, settings=SETTINGS)
        stack.callback(rig.close)
        rig.start()
        rig.register_receiver()
        yield rig


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    arguments.add_argument("--minutes", type=float, default=20)
    arguments.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    chosen = arguments.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="atelier-soak-"))
    with running_rig(folder) as rig:
        sampler = slopes.Sampler(rig)
        sampler.start()
        soak = Soak(rig, chosen.seed, sampler)
        try:
            soak.run(60 * chosen.minutes)
        finally:
            sampler.stop()
            print(f"logs are in {folder}")
        print(soak.report(warm_up=min(60.0, 12 * chosen.minutes)))
    return 1 if soak.violations else 0


if __name__ == "__main__":
    sys.exit(main())
