"""The judge judged: it sees six broken rules, each in a moment at which the whole product is right."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults import mutants, scenarios
from tests.faults.history import History
from tests.faults.mutants import Mutant
from tests.faults.rig import Rig

CASES = [
    (mutants.NO_FENCE, scenarios.zombie_publishes),
    (mutants.SHARED_KEY, scenarios.zombie_uploads),
    (mutants.NO_CANCEL_CHECK, scenarios.cancel_before_publishing),
    (mutants.TWO_STATEMENTS, scenarios.cancel_and_claim),
    (mutants.PLAIN_COUNT, scenarios.two_submits_for_one_place),
    (mutants.NO_COMPARISON, scenarios.forged_doorbell),
]


@pytest.mark.parametrize(("mutant", "scenario"), CASES, ids=[mutant.name for mutant, _ in CASES])
def test_the_judge_sees(mutant: Mutant, scenario: Callable[..., None], rig: Rig, tmp_path: Path) -> None:
    hole = {"hole": tmp_path / "hole"} if mutant is mutants.TWO_STATEMENTS else {}
    seen = {}
    for name, broken in (("whole", None), ("broken", mutant)):
        with closing(History(rig)) as history:
            scenario(history, mutants.copy(tmp_path / name, broken, **hole), **hole)
            rig.mend()
            seen[name] = history.judge()
    assert seen["whole"] == []
    assert mutant.invariant in {violation.invariant for violation in seen["broken"]}, seen["broken"]


def test_a_rule_that_is_gone_is_missed(tmp_path: Path) -> None:
    gone = Mutant("gone", "I1", "shared/jobs/claims.py", "no such text", "")
    with pytest.raises(AssertionError, match=r"gone: shared/jobs/claims\.py has this 0 times"):
        mutants.copy(tmp_path / "copy", gone)
