"""Compare two runs."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.database.queries.runs import load_run
from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import DEFAULT_RESOURCES, Resource
from orchestrator.model.stored import OutcomeChange, RunDiff, UsageChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.database.store.store import Database
    from orchestrator.model.stored import AttemptRow, RunRecord
    from orchestrator.model.tests import TestId

    Finals = Mapping[TestId, list[AttemptRow]]

NOTEWORTHY_RATIO = 1.25
"""The ratio from which a figure counts as changed."""

_NOISE = {
    Resource.MEMORY: 1024 * 1024,
    Resource.CPU: 0.05,
    Resource.DURATION: 0.1,
    Resource.MEMORY_RATIO: 0.01,
}
"""Smaller differences are ignored, whatever their ratio."""

_BY_SEVERITY = (
    Outcome.SKIPPED,
    Outcome.PASSED,
    Outcome.INTERRUPTED,
    Outcome.INFRA,
    Outcome.FAILED,
    Outcome.CRASHED,
    Outcome.TIMEOUT,
    Outcome.OOM,
)


def diff_runs(db: Database, before: str, after: str) -> RunDiff:
    """Return the outcomes and figures that differ between two runs, named as for `load_run`. Of several
    repetitions the worst counts.
    """
    earlier, later = load_run(db, before), load_run(db, after)
    old, new = _finals(earlier), _finals(later)
    common = sorted(old.keys() & new.keys(), key=str)
    usage = [change for test in common for change in _usage_changes(test, old[test], new[test])]
    return RunDiff(
        before=earlier.run,
        after=later.run,
        outcome_changes=tuple(c for test in common for c in _outcome_change(test, old[test], new[test])),
        usage_changes=tuple(sorted(usage, key=_largeness, reverse=True)),
        only_before=tuple(sorted(old.keys() - new.keys(), key=str)),
        only_after=tuple(sorted(new.keys() - old.keys(), key=str)),
    )


def _finals(record: RunRecord) -> Finals:
    finals: dict[TestId, list[AttemptRow]] = defaultdict(list)
    for attempt in record.final_attempts:
        finals[attempt.test_id].append(attempt)
    return finals


def _severity(attempt: AttemptRow) -> int:
    return _BY_SEVERITY.index(attempt.test_outcome or attempt.outcome)


def _outcome_change(test: TestId, old: list[AttemptRow], new: list[AttemptRow]) -> Iterator[OutcomeChange]:
    before, after = max(old, key=_severity), max(new, key=_severity)
    if _severity(before) != _severity(after):
        yield OutcomeChange(
            test_id=test,
            before=before.test_outcome or before.outcome,
            after=after.test_outcome or after.outcome,
            message=after.message,
        )


def _figures(attempt: AttemptRow) -> tuple[float | None, ...]:
    """Return the figures of an attempt in the order of DEFAULT_RESOURCES."""
    usage, limit = attempt.usage, attempt.limits.memory_bytes
    peak = None if usage.memory_peak_is_upper_bound else usage.memory_peak_bytes
    ratio = peak / limit if peak is not None and limit else None
    return (peak, attempt.usage.cpu_seconds, attempt.timings.test_seconds, ratio)


def _usage_changes(test: TestId, old: list[AttemptRow], new: list[AttemptRow]) -> Iterator[UsageChange]:
    if {a.slot.launch for a in old} != {a.slot.launch for a in new}:
        return  # one starts its own interpreter, the other was forked from a preloaded one
    for position, resource in enumerate(DEFAULT_RESOURCES):
        before = max((f for a in old if (f := _figures(a)[position]) is not None), default=None)
        after = max((f for a in new if (f := _figures(a)[position]) is not None), default=None)
        if before is None or after is None or abs(after - before) < _NOISE[resource]:
            continue
        if max(before, after) >= NOTEWORTHY_RATIO * min(before, after):
            yield UsageChange(test_id=test, resource=resource.key, unit=resource.unit, before=before, after=after)


def _largeness(change: UsageChange) -> float:
    smaller, larger = sorted((change.before, change.after))
    return larger / smaller if smaller else float("inf")
