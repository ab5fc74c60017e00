"""Broken budgets of one run or of many: the same trouble of the same test counted once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.model import Severity
from orchestrator.model_reports import BrokenBudget
from orchestrator.reports.columns import PROFILE, RUN_IF_WIDE, TEST, count, number, time_text
from orchestrator.reports.grid import Column, Figure, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.model import RunSummary

GRAVITY = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A budget that a test broke, once or often."""

    worst: BrokenBudget
    """The gravest; of equally grave ones that with the largest measured value."""
    last: BrokenBudget
    times: int
    ordinal: int
    """0, or more where one attempt has several of a kind (both output streams flooded)."""


def of_summary(summary: RunSummary) -> tuple[BrokenBudget, ...]:
    """Violations of a run that has just ended, as the database would give them."""
    return tuple(
        BrokenBudget(
            run_id=summary.run.id,
            attempt_id=result.final.id,
            test_id=result.test.id,
            profile=result.final.assignment.profile.name,
            outcome=result.outcome,
            started_at=result.final.evidence.started_at,
            violation=violation,
        )
        for result in summary.results
        for violation in result.violations
    )


def troubles(found: Iterable[BrokenBudget]) -> list[Trouble]:
    """Counted by test, kind and ordinal; gravest first, then most frequent, then by name."""
    seen: Counter[tuple[str, str]] = Counter()
    together: dict[tuple[str, str, int], Trouble] = {}
    for budget in found:
        kind = budget.violation.kind.value
        ordinal = seen[budget.attempt_id, kind]
        seen[budget.attempt_id, kind] += 1
        key = (str(budget.test_id), kind, ordinal)
        known = together.get(key)
        if known is None:
            together[key] = Trouble(worst=budget, last=budget, times=1, ordinal=ordinal)
            continue
        together[key] = replace(
            known,
            worst=max(known.worst, budget, key=_badness),
            last=max(known.last, budget, key=lambda b: b.started_at),
            times=known.times + 1,
        )
    return sorted(together.values(), key=_order)


def _badness(budget: BrokenBudget) -> tuple[int, float]:
    return (-GRAVITY[budget.violation.severity], budget.violation.measured)


def _order(trouble: Trouble) -> tuple[int, int, str, str]:
    worst = trouble.worst
    return (GRAVITY[worst.violation.severity], -trouble.times, str(worst.test_id), worst.violation.kind.value)


def violations_table(found: Sequence[Trouble]) -> Table:
    """One row a trouble, with the figures of its worst occurrence."""
    return Table(
        name="violations",
        columns=(
            Column(key="severity", title="severity"),
            Column(key="kind", title="violation"),
            TEST,
            count("times", optional=True, worth=1),
            count("measured", optional=True),
            count("limit", optional=True),
            Column(key="unit", title="unit", optional=True, worth=-2),
            PROFILE,
            Column(key="outcome", title="outcome", optional=True, worth=-1),
            RUN_IF_WIDE,
            Column(key="last_seen", title="last seen", optional=True, worth=-1),
            Column(key="message", title="message", flexible=True),
        ),
        rows=tuple(
            (
                trouble.worst.violation.severity.value,
                trouble.worst.violation.kind.value,
                str(trouble.worst.test_id),
                number(trouble.times),
                Figure(trouble.worst.violation.measured, trouble.worst.violation.unit),
                Figure(trouble.worst.violation.limit, trouble.worst.violation.unit),
                trouble.worst.violation.unit,
                trouble.worst.profile,
                trouble.worst.outcome.value,
                trouble.worst.run_id[:8],
                time_text(trouble.last.started_at),
                trouble.worst.violation.message,
            )
            for trouble in found
        ),
        empty="no budget was broken",
    )
