"""The end of a run on the terminal: failures with their output, violations, counts, highest usage, ledger."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import Outcome
from orchestrator.model.runs import RunStatus
from orchestrator.reports.run_summary import FIGURES, MAX_LISTED, MAX_OUTPUTS
from orchestrator.reports.terminal.output_tail import output_lines
from orchestrator.reports.terminal.result_lines import (
    PROFILE_COLUMNS,
    REMARK_CHARACTERS,
    VERB_COLUMNS,
    key_of,
    line,
    line_without_remark,
    remarks,
    wrapped_lines,
)
from orchestrator.text import cells, format_ratio, format_seconds, one_line, plural, shorten_middle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.model.results import TestResult
    from orchestrator.model.runs import Ledger, Run
    from orchestrator.reports.run_summary import ResultTotals, RunSummary


class OutputWhen(StrEnum):
    """Values for when a test's output is shown."""

    IMMEDIATE = "immediate"
    FINAL = "final"
    NEVER = "never"


def summary_lines(
    summary: RunSummary,
    *,
    columns: int | None = None,
    profile_columns: int = PROFILE_COLUMNS,
    success_output: OutputWhen = OutputWhen.NEVER,
    failure_output: OutputWhen = OutputWhen.FINAL,
) -> list[str]:
    """Return all lines that are printed at the end of a run; `columns` is None for a pipe."""
    section = partial(_section, columns=columns, profile_columns=profile_columns)
    totals = summary.totals
    lines: list[str] = []
    if success_output is OutputWhen.FINAL:
        lines += section("Output of passed tests", totals.successful, totals.successful_tests, with_output=True)
    with_output = failure_output is OutputWhen.FINAL
    lines += section("Failures", totals.failures, totals.failed_tests, with_output=with_output)
    lines += violation_lines(totals, columns=columns)
    if lines:
        lines.append("")
    lines.append(count_line(summary))
    lines += reuse_lines(summary.totals)
    lines += left_out_lines(summary)
    lines += closing_lines(summary, columns=columns)
    lines += ledger_lines(summary.ledger)
    return lines


def _section(
    title: str,
    results: Sequence[TestResult],
    total: int,
    *,
    with_output: bool,
    columns: int | None,
    profile_columns: int,
) -> list[str]:
    if not results:
        return []
    lines = ["", f"{title}:"]
    for number, result in enumerate(results[:MAX_LISTED]):
        lines += _with_all_remarks(result, columns, profile_columns)
        if with_output and number < MAX_OUTPUTS:
            lines += output_lines(result.final)
    if total > MAX_LISTED:
        lines.append(f"  and {total - MAX_LISTED} more")
    return lines


def _with_all_remarks(result: TestResult, columns: int | None, profile_columns: int) -> list[str]:
    safe = [one_line(remark, REMARK_CHARACTERS) for remark in remarks(result)]
    if columns is None:
        first = f"    {safe[0]}" if safe else ""
        front = line(result, profile_columns=profile_columns, with_remark=False)
        return [front + first, *(f"  also: {remark}" for remark in safe[1:])]
    lines = [line_without_remark(result, columns=columns, profile_columns=profile_columns)]
    for remark in safe:
        lines += _folded(f"  {remark}", columns)
    return lines


def _folded(text: str, columns: int | None) -> list[str]:
    """Wrap `text` to lines of `columns`; not for a pipe."""
    if columns is None or cells(text) <= columns:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()))
    # textwrap counts one column for wide characters, which have two.
    width = columns if text.isascii() else columns // 2
    return textwrap.wrap(text, max(width, 20), subsequent_indent=indent, break_on_hyphens=False)


def result_lines(
    result: TestResult, *, columns: int | None, profile_columns: int = PROFILE_COLUMNS
) -> tuple[str, ...]:
    """Return `line` for a pipe (`columns` None), `wrapped_lines` for a terminal."""
    if columns is None:
        return (line(result, profile_columns=profile_columns),)
    return wrapped_lines(result, columns=columns, profile_columns=profile_columns)


def violation_lines(totals: ResultTotals, *, columns: int | None = None) -> list[str]:
    """Return lines for each violation: severity, kind, test and message, which on a terminal has lines of its own.
    Of each kind of notice only the first is shown, with the number of the others.
    """
    shown = [(result, violation, 0) for result, violation in totals.listed_violations]
    shown += [(one.result, one.violation, one.times - 1) for one in totals.notices.values()]
    if not shown:
        return []
    width = max(13, *(len(violation.kind.value) for _, violation, _ in shown))
    lines = ["", "Violations:"]
    for result, violation, others in shown:
        front = f"  {violation.severity.value:<7}  {violation.kind.value:<{width}}  "
        name = one_line(key_of(result.final.assignment))
        message = one_line(violation.message, REMARK_CHARACTERS)
        if others:
            message += f" (and {plural(others, 'other test')})"
        if columns is None:
            lines.append(f"{front}{name}    {message}")
        else:
            lines.append(front + shorten_middle(name, max(columns - len(front), 20)))
            lines += _folded(f"           {message}", columns)
    hidden = totals.serious_violations - len(totals.listed_violations)
    if hidden > 0:
        lines.append(f"  and {hidden} more")
    return lines


def count_line(summary: RunSummary) -> str:
    """Return the counts: `Summary [ 12.4s] 14 run: 12 passed (1 flaky), 2 failed, 3 violations`."""
    totals, counts = summary.totals, summary.counts
    parts = [f"{counts['passed']} passed{_kinds(totals.passed_kinds)}"]
    others = (Outcome.INFRA.value, Outcome.INTERRUPTED.value, Outcome.SKIPPED.value)
    if failed := totals.tests - counts["passed"] - sum(counts[name] for name in others):
        parts.append(f"{failed} failed{_kinds(totals.failed_kinds)}")
    parts += [f"{counts[name]} {name}" for name in others if counts[name]]
    if summary.not_run:
        parts.append(f"{len(summary.not_run)} not run")
    if totals.serious_violations:
        parts.append(plural(totals.serious_violations, "violation"))
    if noticed := counts["violations"] - totals.serious_violations:
        parts.append(plural(noticed, "notice"))
    front = f"{'Summary':>{VERB_COLUMNS}} [{summary.duration_seconds:5.1f}s]"
    stopped = " interrupted," if summary.status is RunStatus.INTERRUPTED else ""
    return f"{front}{stopped} {totals.tests} run: {', '.join(parts)}"


def reuse_lines(totals: ResultTotals) -> list[str]:
    """Return a line with the number of tests that ran in used slots; none if each had a container of its own."""
    if not totals.reused_tests:
        return []
    ran = f"{totals.reused_tests} of {plural(totals.tests, 'test')} ran in reused slots"
    return [f"{ran} (orch run --fresh: a container each)"]


def left_out_lines(summary: RunSummary) -> list[str]:
    """Return the number of tests that were found and cannot run, a line for each reason."""
    reasons = Counter(left.reason for left in summary.left_out)
    return [f"{number} not run: {reason.value}" for reason, number in reasons.items()]


def _kinds(kinds: Counter[str]) -> str:
    return f" ({', '.join(f'{number} {kind}' for kind, number in kinds.items())})" if kinds else ""


def closing_lines(summary: RunSummary, *, columns: int | None) -> list[str]:
    """Return the tests with the highest memory share, CPU time and duration, and the command that repeats a
    failure.
    """
    worst = worst_of(summary.totals)
    reproduce = _reproduce(summary)
    if not worst:
        return reproduce
    labels = [f"{_short_key(result, columns)} {figure}" for result, figure in worst]
    first = f"worst: {labels[0]}"
    rest = [f"       {label}" for label in labels[1:]]
    if reproduce and (columns is None or cells(first) + 6 + cells(reproduce[0]) <= columns):
        return [f"{first}      {reproduce[0]}", *rest]
    return [first, *rest, *reproduce]


def _reproduce(summary: RunSummary) -> list[str]:
    """Return the command that repeats the first failure, or else the most severe violation; nothing if there is
    neither.
    """
    totals = summary.totals
    wrong = totals.failures[0] if totals.failures else totals.most_severe and totals.most_severe[1]
    return [] if wrong is None else [reproduce_line(summary.run, wrong)]


def _short_key(result: TestResult, columns: int | None) -> str:
    name = one_line(key_of(result.final.assignment))
    return name if columns is None else shorten_middle(name, max(columns - 30, 20))


def worst_of(totals: ResultTotals) -> list[tuple[TestResult, str]]:
    """Return the tests with the highest memory share, CPU seconds and duration, each with that figure as text."""
    found: list[tuple[TestResult, str]] = []
    for name, _ in FIGURES:
        if name in totals.worst:
            figure, result = totals.worst[name]
            found.append((result, f"{name} {_TEXTS[name](figure)}"))
    return found


_TEXTS: Mapping[str, Callable[[float], str]] = {
    "memory": format_ratio,
    "cpu": partial(format_seconds, decimals=1),
    "duration": format_seconds,
}


def reproduce_line(run: Run, result: TestResult) -> str:
    """Return a command for a shell: `reproduce: orch repro b0b3:test/test_index.py`."""
    target = f"{run.id[:4]}:{result.test.id}"
    if one_line(target) != target:
        return f"reproduce: orch repro {run.id[:4]}:…   (the test's name cannot be typed; see orch runs show)"
    return f"reproduce: orch repro {shlex.quote(target)}"


def ledger_lines(ledger: Ledger) -> list[str]:
    """Return lines on objects that the run left behind or did not expect."""
    lines: list[str] = []
    if ledger.left:
        lines.append(
            f"left behind: {plural(len(ledger.left), 'object')}"
            f" ({ledger.expected_containers} containers expected, {ledger.created_containers} created);"
            " remove with: orch clean"
        )
        lines += [f"  {one_line(name)}" for name in ledger.left[:MAX_LISTED]]
    if ledger.unexpected:
        lines.append(f"unexpected: {plural(len(ledger.unexpected), 'object')} that orch did not create")
        lines += [f"  {one_line(name)}" for name in ledger.unexpected[:MAX_LISTED]]
    return lines
