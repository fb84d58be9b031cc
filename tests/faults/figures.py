"""`python -m tests.faults.figures REPORT`: the table of docs/faults.md, from what a run's experiments wrote down."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

HEAD = """# What was broken, and what came of it

`make faults` runs every experiment of `tests/faults/`, each against two gateways, two coordinators and two workers on a
Postgres with fsync; leases are 2 s and heartbeats 0.5 s (on a server 60 and 15). After each, `tests/faults/history.py`
compares what clients were told with what database, storage and webhook receiver hold, and counts what breaks a promise.
`make test` runs what concerns gateways and coordinators with smaller numbers, and proves by six mutants of the product
that the judge sees what it should. `make soak` breaks by chance for as long as one likes.

*Recovered in*: the longest time until what was hit went on. Of a fault of one moment, such as a kill, it counts from
that moment: where attempts were lost, until their jobs were claimed again, leases included; else until the next job
was completed. Of one that lasted, such as a server that was away, it counts from its healing: until the lost jobs were
claimed again, and until a job was completed that was claimed after the healing.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment: how often it broke something, with how many jobs, and what came of it (seconds).

    `whole` tells the large numbers of `make faults` from the small ones of `make test`.
    """

    fault: str
    faults: int
    jobs: int
    recovered: float | None
    violations: int
    whole: bool
    on: str


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise of the product in numbers, the most or the least that it allows, and what was measured."""

    promise: str
    measured: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_met(self) -> bool:
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )

    def __str__(self) -> str:
        allowed = f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"
        met = "yes" if self.is_met else "**no**"
        return f"| {self.promise} | {allowed} {self.unit} | {round(self.measured, 1):g} {self.unit} | {met} |"


def note(report: Path | None, row: Row | Budget) -> None:
    """Add it to a run's report, if one is kept."""
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        with report.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| fault | times | jobs | recovered in | violations |", "|---|---|---|---|---|"]
    for row in rows:
        recovered = "–" if row.recovered is None else f"{row.recovered:.1f} s"
        lines.append(f"| {row.fault} | {row.faults} | {row.jobs:,} | {recovered} | {row.violations} |")
    return "\n".join(lines)


def budgets(found: list[Budget]) -> str:
    """Promise and measurement side by side, as Markdown."""
    lines = ["| with the settings of a server | budget | measured | met |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(str, found)])


def page(rows: list[Row], found: list[Budget]) -> str:
    """docs/faults.md."""
    days = sorted({row.on for row in rows})
    jobs, violations = sum(row.jobs for row in rows), sum(row.violations for row in rows)
    numbers = "the large numbers" if all(row.whole for row in rows) else "the small numbers of `make test`"
    total = (
        f"Run on {' and '.join(days)} with {numbers}: {len(rows)} experiments, {jobs:,} jobs, {violations} violations."
    )
    sections = [HEAD, total, *([budgets(found)] if found else []), table(rows)]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def read(report: Path) -> tuple[list[Row], list[Budget]]:
    rows: list[Row] = []
    found: list[Budget] = []
    for line in report.read_text().splitlines():
        told = json.loads(line)
        if "promise" in told:
            found.append(Budget(**told))
        else:
            rows.append(Row(**told))
    return rows, found


if __name__ == "__main__":
    print(page(*read(Path(sys.argv[1]))), end="")
