"""Find the conditions under which a test fails significantly more often than alone. Pure computation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.analysis.statistics import fisher_one_sided, holm
from orchestrator.model.flakiness import Condition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.flakiness import ConditionResult

LEVEL = 0.05
"""Significance level: the largest share of diagnoses that name a condition although none makes the test fail more.
"""


def compare_conditions(
    results: Sequence[ConditionResult],
) -> tuple[tuple[ConditionResult, ...], tuple[Condition, ...]]:
    """Return the results with their p-values (`chance`), and the conditions under which the test fails
    significantly more often than alone, most certain first.

    Each condition is compared with `ALONE` by Fisher's exact test, one-sided; the p-values are corrected for the
    number of comparisons (Holm). Without an attempt alone nothing is compared.
    """
    alone = next((one for one in results if one.condition is Condition.ALONE), None)
    if alone is None or not alone.total:
        return tuple(results), ()
    others = [one for one in results if one is not alone and one.total]
    chances = holm(
        [
            fisher_one_sided(one.failed, one.total, one.failed + alone.failed, one.total + alone.total)
            for one in others
        ]
    )
    chance_of = {one.condition: chance for one, chance in zip(others, chances, strict=True)}
    weighed = tuple(replace(one, chance=chance_of.get(one.condition)) for one in results)
    culprits = sorted((c for c, chance in chance_of.items() if chance <= LEVEL), key=lambda c: chance_of[c])
    return weighed, tuple(culprits)
