"""Under which conditions a test fails more often than alone, as far as chance does not explain it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.analysis.statistics import fisher_more, holm
from orchestrator.model.flakiness import Condition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.flakiness import ConditionResult

LEVEL = 0.05
"""Of diagnoses of a test that no condition makes fail more, at most this share names one."""


def weigh(results: Sequence[ConditionResult]) -> tuple[tuple[ConditionResult, ...], tuple[Condition, ...]]:
    """The results with their chances, and the conditions that make the test fail, most certain first: Fisher's
    exact test, one-sided, each against alone, corrected for their number (Holm).
    """
    alone = next((one for one in results if one.condition is Condition.ALONE), None)
    if alone is None or not alone.total:
        return tuple(results), ()
    others = [one for one in results if one is not alone and one.total]
    chances = holm(
        [fisher_more(one.failed, one.total, one.failed + alone.failed, one.total + alone.total) for one in others]
    )
    chance_of = {one.condition: chance for one, chance in zip(others, chances, strict=True)}
    weighed = tuple(replace(one, chance=chance_of.get(one.condition)) for one in results)
    culprits = sorted((c for c, chance in chance_of.items() if chance <= LEVEL), key=lambda c: chance_of[c])
    return weighed, tuple(culprits)
