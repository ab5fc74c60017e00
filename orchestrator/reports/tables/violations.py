"""Violations of one or more runs: repeated violations of a test are grouped into one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.stored import ViolationRow
from orchestrator.model.violation_groups import SeenViolation, ViolationGroup, group_violations
from orchestrator.reports.tables.columns import PROFILE, RUN_IF_WIDE, TEST, count, number, time_text
from orchestrator.reports.tables.table import Column, Figure, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.model.results import TestResult


def of_result(result: TestResult) -> tuple[ViolationRow, ...]:
    """Return the violations of a test that has just ended, as the database would return them."""
    final = result.final
    return tuple(
        ViolationRow(
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


class RunViolations:
    """All violations of a run, for reports that list all of them."""

    def __init__(self) -> None:
        self.found: list[ViolationRow] = []

    def add(self, results: Iterable[TestResult]) -> None:
        """Add the violations of final results."""
        for result in results:
            if result.violations:
                self.found += of_result(result)

    def groups(self) -> list[ViolationGroup]:
        """Return the groups of the violations, as `violation_groups`."""
        return violation_groups(self.found)


def violation_groups(found: Iterable[ViolationRow]) -> list[ViolationGroup]:
    """Group violations by test, kind and ordinal; most severe first, then most frequent, then by name."""
    rows = tuple(found)
    return [
        ViolationGroup(
            worst=rows[one.worst],
            last_at=rows[one.last].started_at,
            times=one.times,
            ordinal=one.ordinal,
        )
        for one in group_violations(map(_seen, rows))
    ]


def _seen(row: ViolationRow) -> SeenViolation:
    violation = row.violation
    return SeenViolation(
        attempt_id=row.attempt_id,
        test=str(row.test_id),
        kind=violation.kind.value,
        severity_rank=violation.severity.rank,
        measured=violation.measured,
        at=row.started_at,
    )


def violations_table(found: Sequence[ViolationGroup]) -> Table:
    """Return a table with a row for each group, with the figures of its most severe occurrence."""
    return Table(
        name="violations",
        columns=(
            Column(key="severity", title="severity"),
            Column(key="kind", title="violation"),
            TEST,
            count("times", optional=True, priority=1),
            count("measured", optional=True),
            count("limit", optional=True),
            Column(key="unit", title="unit", optional=True, priority=-2),
            PROFILE,
            Column(key="outcome", title="outcome", optional=True, priority=-1),
            RUN_IF_WIDE,
            Column(key="last_seen", title="last seen", optional=True, priority=-1),
            Column(key="message", title="message", flexible=True),
        ),
        rows=tuple(
            (
                group.worst.violation.severity.value,
                group.worst.violation.kind.value,
                str(group.worst.test_id),
                number(group.times),
                Figure(group.worst.violation.measured, group.worst.violation.unit),
                Figure(group.worst.violation.limit, group.worst.violation.unit),
                group.worst.violation.unit,
                group.worst.profile,
                group.worst.outcome.value,
                group.worst.run_id[:8],
                time_text(group.last_at),
                group.worst.violation.message,
            )
            for group in found
        ),
        empty="no violations",
    )
