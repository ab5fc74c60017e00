"""Content of the report's tables, before it is HTML."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import SUCCESSFUL, Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.rightsizing import Advice
from orchestrator.reports.html.details import name_of
from orchestrator.reports.tables.flaky import rate_text, sentences
from orchestrator.text import format_bytes, format_change, format_clock, one_line, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.model.flakiness import AttemptContext
    from orchestrator.model.nightly import HistoryAnalysis, Nightly, NightlyTest
    from orchestrator.model.rightsizing import Suggestion
    from orchestrator.model.violations import Violation, ViolationKind

_STRIP = 20
_SHOWN_KINDS = 12
_NOTEWORTHY = 0.2
_SEVERITIES = ("error", "warning", "notice")


def thousands(count: int) -> str:
    """Return a number with separators: `2,000`."""
    return f"{count:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure in the head of the report."""

    title: str
    value: str
    note: str = ""
    tone: str = ""
    """`bad`, `good` or empty: the colour."""


def headline(report: Nightly) -> str:
    """Return the report in one sentence."""
    failing = sum(test.failing for test in report.tests)
    total = len(report.tests)
    if not total:
        return "No test ran"
    if not failing:
        return f"All {thousands(total)} tests passed" if total > 1 else "The one test passed"
    new = sum(test.newly_failing for test in report.tests) if report.compares else 0
    verb = "fails" if failing == 1 else "fail"
    return f"{thousands(failing)} of {thousands(total)} tests {verb}" + (f", {new} of them new" if new else "")


def tiles(report: Nightly, flaky: int) -> tuple[Tile, ...]:
    """Return the counts and costs, each compared with the earlier window. `flaky`: number of flaky tests."""
    tests, cost, before = report.tests, report.cost, report.cost_before
    new, fixed = sum(t.newly_failing for t in tests), sum(t.fixed for t in tests)
    new_violations = sum(len(t.kinds - t.kinds_before) for t in tests)
    resolved = sum(len(t.kinds_before - t.kinds) for t in tests)
    outcomes = report.outcomes
    counts = ", ".join(
        f"{thousands(outcomes[o])} {o.value}" for o in Outcome if outcomes[o] and o is not Outcome.PASSED
    )
    found = [Tile(title="Passed", value=thousands(outcomes[Outcome.PASSED]), note=counts)]
    if report.compares:
        found += [
            Tile(title="New failures", value=str(new), tone="bad" if new else ""),
            Tile(title="Fixed", value=str(fixed), tone="good" if fixed else ""),
            Tile(
                title="New violations",
                value=str(new_violations),
                note=f"{resolved} resolved",
                tone="bad" if new_violations else "",
            ),
        ]
    else:
        found.append(Tile(title="Violations", value=str(new_violations), note="no earlier run to compare with"))
    found += [
        Tile(title="Flaky", value=str(flaky), tone="bad" if flaky else ""),
        Tile(
            title="Duration of runs",
            value=format_clock(cost.wall_seconds),
            note=_against(cost.wall_seconds, before.wall_seconds if before else None, plural(cost.runs, "run")),
        ),
    ]
    if cost.cpu_seconds is not None:
        earlier = before.cpu_seconds if before else None
        found.append(
            Tile(
                title="CPU time",
                value=format_clock(cost.cpu_seconds),
                note=_against(cost.cpu_seconds, earlier, plural(cost.attempts, "attempt")),
            )
        )
    return tuple(found)


def _against(now: float, before: float | None, otherwise: str) -> str:
    return f"{format_change(now / before - 1)} · {otherwise}" if before else otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingTest:
    """A failing test, and since when it fails."""

    test: NightlyTest
    since: str
    new: bool


def failing_now(tests: Sequence[NightlyTest]) -> tuple[FailingTest, ...]:
    """Return the failing tests, new failures first."""
    found = [
        FailingTest(test=test, since=_failing_for(test), new=test.newly_failing and bool(test.before))
        for test in tests
        if test.failing
    ]
    return tuple(sorted(found, key=lambda f: not f.new))


def _failing_for(test: NightlyTest) -> str:
    if test.newly_failing:
        return "new" if test.before else "first run"
    count = 0
    for outcome in test.before.deciding_outcomes:
        if outcome in SUCCESSFUL:
            break
        count += 1
    return f"{plural(count, 'run')} ago"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedKind:
    """Tests with a new or a resolved violation of one kind."""

    kind: ViolationKind
    severity: str
    tests: tuple[tuple[NightlyTest, str], ...]
    """The tests, each with the message of the violation; empty if it is resolved."""
    more: int


def changed_violations(tests: Sequence[NightlyTest]) -> dict[str, tuple[ChangedKind, ...]]:
    """Return `new` and `gone` kinds, most severe first. Without earlier runs all violations are new."""
    new: dict[ViolationKind, list[tuple[NightlyTest, str]]] = defaultdict(list)
    gone: dict[ViolationKind, list[tuple[NightlyTest, str]]] = defaultdict(list)
    severity: dict[ViolationKind, str] = {}
    for test in tests:
        for violation in _first_of_each(test.last.violations):
            if violation.kind not in test.kinds_before:
                new[violation.kind].append((test, one_line(violation.message, 300)))
                severity[violation.kind] = violation.severity.value
        for kind in sorted(test.kinds_before - test.kinds):
            gone[kind].append((test, ""))
    return {"new": _by_kind(new, severity), "gone": _by_kind(gone, severity)}


def _first_of_each(violations: Sequence[Violation]) -> Sequence[Violation]:
    return tuple({violation.kind: violation for violation in reversed(violations)}.values())


def _by_kind(
    found: dict[ViolationKind, list[tuple[NightlyTest, str]]], severity: dict[ViolationKind, str]
) -> tuple[ChangedKind, ...]:
    kinds = [
        ChangedKind(
            kind=kind,
            severity=severity.get(kind, "notice"),
            tests=tuple(tests[:_SHOWN_KINDS]),
            more=max(len(tests) - _SHOWN_KINDS, 0),
        )
        for kind, tests in found.items()
    ]
    return tuple(sorted(kinds, key=lambda k: (_SEVERITIES.index(k.severity), k.kind)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlakyRow:
    """A flaky test."""

    test: NightlyTest
    failed: str
    """`7 of 40 failed`."""
    rate: str
    """`18 % (9 to 31 %)`."""
    strip: tuple[str, ...]
    """The latest runs, oldest first: `pass`, `fail`, or `flaky` for a run with both."""
    findings: tuple[str, ...]
    """Sentences on what its failures have in common."""


def flaky_tests(tests: Sequence[NightlyTest], analysis: HistoryAnalysis) -> tuple[FlakyRow, ...]:
    """Return the flaky tests of the report, highest failure rate first."""
    here = {test.test_id: test for test in tests}
    found = []
    for flaky, finding in analysis.flaky:
        if flaky.test_id in here:
            failed, _, rate = rate_text(finding.failed, finding.total, finding.low, finding.high).partition(": ")
            strip = tuple(_runs(flaky.attempts))[-_STRIP:]
            findings = tuple(sentences(finding))
            found.append(
                FlakyRow(test=here[flaky.test_id], failed=failed, rate=rate, strip=strip, findings=findings)
            )
    return tuple(found)


def _runs(attempts: Sequence[AttemptContext]) -> Iterator[str]:
    for _, group in itertools.groupby(attempts, key=lambda attempt: attempt.run_id):
        ends = {attempt.failed for attempt in group}
        yield "flaky" if len(ends) > 1 else "fail" if True in ends else "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileAdvice:
    """Suggestion of another profile for a test."""

    test: NightlyTest
    advice: str
    current: str
    suggested: str
    """Name of the profile; empty if no profile fits."""
    saved: str
    runs: int
    reason: str


def profile_advice(tests: Sequence[NightlyTest], analysis: HistoryAnalysis) -> tuple[ProfileAdvice, ...]:
    """Return the tests that should use another profile: those with too small a profile first, then the largest
    savings.
    """
    here = {test.test_id: test for test in tests}
    return tuple(
        ProfileAdvice(
            test=here[one.test_id],
            advice=one.advice.value,
            current=one_line(one.current, 60),
            suggested=one_line(one.suggested or "", 60),
            saved=_saved(one),
            runs=one.runs,
            reason=one_line(one.reason, 200),
        )
        for one in analysis.advice
        if one.test_id in here and one.advice in _WORTH_A_ROW
    )


_WORTH_A_ROW = frozenset({Advice.LARGER, Advice.NONE_HOLDS, Advice.SMALLER})


def _saved(one: Suggestion) -> str:
    """Return the savings: `896M, 1 CPU`; negative if the suggested profile is larger."""
    if one.suggested is None:
        return ""
    parts = [format_bytes(one.saved_memory_bytes)] if one.saved_memory_bytes else []
    if one.saved_cpus:
        parts.append(f"{one.saved_cpus:g} CPU{'s' if abs(one.saved_cpus) != 1 else ''}")
    if one.saved_timeout_seconds and not parts:
        parts.append(f"{format_clock(abs(one.saved_timeout_seconds))} of timeout")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRow:
    """A test in the table of all tests. Figures are text without units, which are in the head of the table; an
    unknown figure is empty, and empty figures at the end are omitted.
    """

    outcome: str
    bad: bool
    name: str
    profile: str
    figures: tuple[str, ...]
    """Seconds, % of the timeout, MiB, % of the limit, CPU seconds, tasks, change of duration and of memory in %.
    """
    violations: str


def all_rows(tests: Sequence[NightlyTest]) -> tuple[TestRow, ...]:
    """Return the rows in the order of the tests."""
    return tuple(_row(test) for test in tests)


def _row(test: NightlyTest) -> TestRow:
    memory, time = test.maximum(Resource.MEMORY_RATIO), test.maximum(Resource.TIME_RATIO)
    peak = test.maximum(Resource.MEMORY)
    figures = (
        _digits(test.maximum(Resource.DURATION), 2),
        _percent(time),
        _digits(None if peak is None else peak / (1 << 20), 1),
        _percent(memory),
        _digits(test.maximum(Resource.CPU), 2),
        _digits(test.maximum(Resource.PIDS), 0),
        _change(test.change(Resource.DURATION)),
        _change(test.change(Resource.MEMORY)),
    )
    filled = next((at for at in range(len(figures), 0, -1) if figures[at - 1]), 0)
    return TestRow(
        outcome=test.outcome.value,
        bad=test.failing,
        name=name_of(test),
        profile=one_line(test.last.profile, 60),
        figures=figures[:filled],
        violations=" ".join(sorted(test.kinds)),
    )


def _digits(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    percent = share * 100
    return "99" if 99 <= percent < 100 else f"{percent:.0f}"


def _change(change: float | None) -> str:
    """Return the change in percent; empty if it is within the usual noise."""
    return "" if change is None or abs(change) < _NOTEWORTHY else f"{change * 100:+.0f}"
