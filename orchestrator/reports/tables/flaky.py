"""Flaky tests as text and table: latest attempts, failure rates and possible causes."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from orchestrator.model.flakiness import MINIMUM_FAILURES, Factor
from orchestrator.model.outcomes import Outcome
from orchestrator.reports.tables.columns import TEST, as_ratio, count, number
from orchestrator.reports.tables.table import Column, Figure, Table
from orchestrator.text import format_ratio, format_seconds, one_line, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.model.flakiness import (
        AttemptContext,
        Cause,
        Circumstance,
        FailureCounts,
        FlakinessFinding,
        FlakyTest,
    )
    from orchestrator.model.tests import TestId

GLYPHS = {
    Outcome.PASSED: ".",
    Outcome.FAILED: "F",
    Outcome.TIMEOUT: "T",
    Outcome.OOM: "O",
    Outcome.CRASHED: "X",
}
LEGEND = (
    "strip: one sign for each attempt, newest right; attempts of the same run are together:"
    " . passed  F failed  T timeout  O out of memory  X crashed"
)
STRIP_WIDTH = 60
_ENDS = {
    Outcome.OOM: "each failure ran out of memory",
    Outcome.TIMEOUT: "each failure ran out of time",
    Outcome.CRASHED: "each failure was a crash",
}
_PHRASES = {
    Factor.MEMORY: ("at 90 % of its memory limit or more", "below 90 % of its memory limit"),
    Factor.PARALLEL: ("beside other tests", "alone"),
    Factor.REUSED: ("after other tests in its container", "in a fresh container"),
    Factor.FORKED: ("forked from a preloaded runner", "as a process of its own"),
    Factor.HOST: ("on host {}", "on hosts other than {}"),
    Factor.PROFILE: ("under profile {}", "under profiles other than {}"),
    Factor.AFTER: ("right after {} in its container", "not right after {} in its container"),
    Factor.NEIGHBOUR: ("beside {}", "without {} beside it"),
}
"""Texts for a circumstance that is present and one that is absent."""
_SHOWN_CAUSES = 4
_SHOWN_TOGETHER = 3

FlakyRow = tuple["FlakyTest", "FlakinessFinding"]


def strip(attempts: Sequence[AttemptContext], *, width: int = STRIP_WIDTH) -> str:
    """Return a sign for each of the newest attempts, newest right, in ASCII: `..F..` or, if a run has several
    attempts, `. . F. .`.
    """
    groups = [
        "".join(GLYPHS.get(attempt.outcome, "?") for attempt in group)
        for _, group in itertools.groupby(attempts, key=lambda attempt: attempt.run_id)
    ]
    text = (" " if any(len(group) > 1 for group in groups) else "").join(groups)
    return text[-width:].strip()


def rate_text(failed: int, total: int, low: float, high: float) -> str:
    """Return `7 of 40 failed: 18 % (9 to 31 %)`; the 95 % confidence interval is in brackets."""
    interval = f"{format_ratio(low)} to {format_ratio(high)}".replace(" %", "", 1)
    return f"{failed} of {total} failed: {format_ratio(failed / total)} ({interval})"


def sentences(finding: FlakinessFinding) -> list[str]:
    """Return sentences on the possible causes, most certain first, or on why there is none."""
    failures = plural(finding.failed, "failure")
    if not finding.failed:
        return [f"never failed in {plural(finding.total, 'attempt')}"]
    common = [text for outcome, text in _ENDS.items() if finding.ends.get(outcome) == finding.failed]
    if finding.failed == finding.total:
        return [always_text(finding.total), *common]
    if finding.missing:
        return [*common, f"too few attempts to find a cause ({failures} of {finding.total}): {_missing(finding)}"]
    causes = [cause_text(cause) for cause in finding.causes[:_SHOWN_CAUSES]]
    if not finding.has_cause:
        tried = plural(finding.tried, "circumstance")
        causes.insert(0, f"no cause found in {failures} ({tried} examined)")
    return [*common, *causes]


def always_text(attempts: int) -> str:
    """Return the sentence for a test whose attempts all failed. With no passes to compare, it has no cause."""
    if attempts == 1:
        return "failed in its only attempt: it is not known whether it always fails"
    return f"always fails: {attempts} of {attempts}, it is broken rather than flaky"


def _missing(finding: FlakinessFinding) -> str:
    few_failures = finding.failed + finding.missing == MINIMUM_FAILURES
    one, many = ("failure", "failures") if few_failures else ("pass", "passes")
    return f"{finding.missing} more {many} are needed" if finding.missing > 1 else f"one more {one} is needed"


def cause_text(cause: Cause) -> str:
    """Return a sentence such as `fails 6 of 9 beside test/test_b.py, 1 of 31 otherwise (by chance 1 in 2,300)`."""
    if cause.present is not None and cause.absent is not None:
        there, gone = phrase(cause.of, there=True), phrase(cause.of, there=False)
        with_, without = _of(cause.present), _of(cause.absent)
        text = (
            f"fails {without} {gone}, {with_} otherwise"
            if cause.helps
            else f"fails {with_} {there}, {without} otherwise"
        )
    else:
        text = _figures(cause)
    return f"{text} ({chance_text(cause.chance)}){_together(cause.together_with)}"


def _of(share: FailureCounts) -> str:
    return f"{share.failed} of {share.total}"


def _figures(cause: Cause) -> str:
    bad, good = cause.failed_median or 0.0, cause.passed_median or 0.0
    match cause.of.factor:
        case Factor.THROTTLED:
            failing, passing = format_ratio(bad), format_ratio(good)
            return f"throttled by its CPU limit {failing} of the time when it fails, {passing} otherwise"
        case Factor.CROWD:
            return f"{bad:.1f} tests beside it when it fails, {good:.1f} otherwise"
        case _:
            return f"takes {format_seconds(bad)} when it fails, {format_seconds(good)} when it passes"


def phrase(of: Circumstance, *, there: bool) -> str:
    """Return the text of a circumstance, or of its absence, that follows "fails 6 of 9"."""
    if of.factor not in _PHRASES:
        return of.factor.value
    limit = 12 if of.factor is Factor.HOST else 200
    return _PHRASES[of.factor][not there].format(one_line(of.subject, 200)[:limit])


def _together(others: Sequence[Circumstance]) -> str:
    if not others:
        return ""
    named = [phrase(one, there=True) for one in others[:_SHOWN_TOGETHER]]
    more = len(others) - len(named)
    rest = f" and {more} more" if more else ""
    return f"; cannot be distinguished from: {', '.join(named)}{rest}"


def chance_text(chance: float) -> str:
    """Return a probability to two digits, as `by chance 1 in 2,300`."""
    if chance <= 1e-6:
        return "by chance less than 1 in 1,000,000"
    one_in = 1 / chance
    size = 10 ** max(int(math.log10(one_in)) - 1, 0)
    return f"by chance 1 in {int(one_in / size) * size:,}"


def always_lines(broken: Sequence[tuple[TestId, int]], *, limit: int) -> list[str]:
    """Return a line for each test that failed in all its attempts. Such tests are not flaky, but users look for
    them there.
    """
    lines = [f"{one_line(str(test))}  {always_text(times)}" for test, times in broken[:limit]]
    if len(broken) > limit:
        lines.append(f"{plural(len(broken) - limit, 'more test')} that always fail")
    return [*lines, ""] if lines else []


def flaky_lines(rows: Sequence[FlakyRow], *, more: int = 0) -> list[str]:
    """Return a paragraph for each test, then the legend."""
    lines: list[str] = []
    for test, finding in rows:
        rate = rate_text(finding.failed, finding.total, finding.low, finding.high)
        lines += [one_line(str(test.test_id)), f"  {rate}", f"  {strip(test.attempts)}"]
        lines += [f"  - {text}" for text in sentences(finding)]
        lines.append("")
    if more:
        lines.append(f"{plural(more, 'more test')} with a larger --limit")
    return [*lines, LEGEND]


def flaky_table(rows: Sequence[FlakyRow]) -> Table:
    """Return a table with a row for each test and its most certain cause."""
    return Table(
        name="flaky",
        columns=(
            TEST,
            count("attempts"),
            count("failed"),
            count("rate"),
            count("rate_low", "from"),
            count("rate_high", "to"),
            Column(key="strip", title="latest, newest right"),
            Column(key="ends", title="ends"),
            Column(key="factor", title="factor"),
            Column(key="subject", title="subject"),
            count("chance", "by chance"),
            count("circumstances_tried", "tried"),
            Column(key="runner_up", title="second cause"),
            Column(key="causes", title="possible causes"),
        ),
        rows=tuple(_row(test, finding) for test, finding in rows),
        empty="no test passed and failed",
    )


def _row(test: FlakyTest, finding: FlakinessFinding) -> tuple[str | Figure, ...]:
    first = finding.causes[0] if finding.has_cause else None
    return (
        str(test.test_id),
        number(finding.total),
        number(finding.failed),
        as_ratio(finding.rate),
        as_ratio(finding.low),
        as_ratio(finding.high),
        strip(test.attempts),
        ends_text(finding.ends),
        first.of.factor.value if first else "",
        first.of.subject if first else "",
        Figure(first.chance, "count") if first else Figure(None, "none"),
        number(finding.tried),
        _runner_up(finding),
        "; ".join(sentences(finding)),
    )


def _runner_up(finding: FlakinessFinding) -> str:
    """Return the second cause; empty if there is none, or if the first one is only a symptom."""
    return cause_text(finding.causes[1]) if finding.has_cause and len(finding.causes) > 1 else ""


def ends_text(ends: Mapping[Outcome, int]) -> str:
    """Return the number of failures by outcome, most frequent first: `5 failed, 2 timeout`."""
    return ", ".join(f"{times} {outcome.value}" for outcome, times in sorted(ends.items(), key=_often))


def _often(item: tuple[Outcome, int]) -> tuple[int, str]:
    return (-item[1], item[0].value)


def worst_first(rows: Iterable[FlakyRow]) -> list[FlakyRow]:
    """Sort by the lower bound of the failure rate, highest first, so that many failures weigh more than one of
    two.
    """
    return sorted(rows, key=lambda row: (-row[1].low, str(row[0].test_id)))
