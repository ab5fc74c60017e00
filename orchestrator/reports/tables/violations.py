"""Broken budgets of one run or of many: the same trouble of the same test counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.stored import BrokenBudget
from orchestrator.model.violation_groups import GRAVITY, Seen, Trouble, counted
from orchestrator.reports.tables.columns import PROFILE, RUN_IF_WIDE, TEST, count, number, time_text
from orchestrator.reports.tables.table import Column, Figure, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.model.results import TestResult


def of_result(result: TestResult) -> tuple[BrokenBudget, ...]:
    """Violations of a test that has just ended, as the database would give them."""
    final = result.final
    return tuple(
        BrokenBudget(
            run_id=final.assignment.run_id,
            attempt_id=final.id,
            test_id=result.test.id,
            profile=final.assignment.profile.name,
            outcome=result.outcome,
            started_at=final.evidence.started_at,
            violation=violation,
        )
        for violation in final.violations
    )


class Broken:
    """All budgets that the tests of a run broke; kept where a report lists them all."""

    def __init__(self) -> None:
        self.found: list[BrokenBudget] = []

    def add(self, results: Iterable[TestResult]) -> None:
        """Tests have their final results."""
        for result in results:
            if result.violations:
                self.found += of_result(result)

    def troubles(self) -> list[Trouble]:
        """See `troubles`."""
        return troubles(self.found)


def troubles(found: Iterable[BrokenBudget]) -> list[Trouble]:
    """Counted by test, kind and ordinal; gravest first, then most frequent, then by name."""
    budgets = tuple(found)
    return [
        Trouble(
            worst=budgets[one.worst],
            last_at=budgets[one.last].started_at,
            times=one.times,
            ordinal=one.ordinal,
        )
        for one in counted(map(_seen, budgets))
    ]


def _seen(budget: BrokenBudget) -> Seen:
    violation = budget.violation
    return Seen(
        attempt_id=budget.attempt_id,
        test=str(budget.test_id),
        kind=violation.kind.value,
        gravity=GRAVITY[violation.severity],
        measured=violation.measured,
        at=budget.started_at,
    )


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
                time_text(trouble.last_at),
                trouble.worst.violation.message,
            )
            for trouble in found
        ),
        empty="no budget was broken",
    )
