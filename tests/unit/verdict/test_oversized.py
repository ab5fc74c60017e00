"""CASES B5: no profile is advised whose limits have ended the test before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import History
from orchestrator.verdict.oversized import too_small
from tests.support.handmade import make_profile

if TYPE_CHECKING:
    from orchestrator.model.profiles import Limits

MIB = 1 << 20
TINY = make_profile(memory_bytes=16 * MIB, timeout_seconds=2.0).limits


@pytest.mark.parametrize(
    ("killed", "limits", "small"),
    [
        ((), TINY, False),
        (((Outcome.OOM, TINY),), TINY, True),
        (((Outcome.OOM, TINY),), replace(TINY, memory_bytes=8 * MIB), True),
        (((Outcome.OOM, TINY),), replace(TINY, memory_bytes=32 * MIB), False),
        (((Outcome.OOM, TINY),), replace(TINY, memory_bytes=32 * MIB, timeout_seconds=1.0), False),
        (((Outcome.TIMEOUT, TINY),), replace(TINY, memory_bytes=32 * MIB), True),
        (((Outcome.TIMEOUT, TINY),), replace(TINY, timeout_seconds=9.0), False),
    ],
)
def test_limits_that_ended_the_test_in_this_run_are_too_small(
    killed: tuple[tuple[Outcome, Limits], ...], limits: Limits, small: bool
) -> None:
    assert too_small(limits, killed, None) is small


def test_limits_that_ended_the_test_in_earlier_runs_are_too_small() -> None:
    history = History(
        attempts=3,
        duration_seconds_p95=1.0,
        memory_bytes_p95=10 * MIB,
        cpus_p95=None,
        last_outcome=Outcome.PASSED,
        memory_refused_bytes=16 * MIB,
    )
    assert too_small(TINY, (), history)
    assert not too_small(replace(TINY, memory_bytes=17 * MIB), (), history)
    assert not too_small(TINY, (), replace(history, memory_refused_bytes=None))
