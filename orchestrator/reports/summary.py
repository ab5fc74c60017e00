"""The end of a run on the terminal: failures again with their output, violations, counts, worst, ledger."""

from __future__ import annotations

import shlex
import textwrap
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.model import Outcome, RunStatus, Severity, Verb
from orchestrator.reports.output import output_lines
from orchestrator.reports.terminal import (
    PROFILE_COLUMNS,
    REMARK_CHARACTERS,
    VERB_COLUMNS,
    bare_line,
    by_gravity,
    gravity_of,
    key_of,
    line,
    remarks,
    wrapped_lines,
)
from orchestrator.reports.text import (
    cells,
    format_cpu,
    format_duration,
    format_ratio,
    one_line,
    plural,
    shorten_middle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.model import Ledger, Run, RunSummary, TestResult, Violation

# What is listed at the end stays readable, and in memory, when all of 10,000 tests fail.
MAX_OUTPUTS = 30
MAX_LISTED = 200

_ENDED_BADLY = (Outcome.FAILED, Outcome.TIMEOUT, Outcome.OOM, Outcome.CRASHED)


class OutputWhen(StrEnum):
    """When a test's output is shown."""

    IMMEDIATE = "immediate"
    FINAL = "final"
    NEVER = "never"


def is_failure(result: TestResult) -> bool:
    """True for all that neither passed nor was skipped."""
    return result.outcome not in (Outcome.PASSED, Outcome.SKIPPED)


def summary_lines(
    summary: RunSummary,
    *,
    columns: int | None = None,
    profile_columns: int = PROFILE_COLUMNS,
    success_output: OutputWhen = OutputWhen.NEVER,
    failure_output: OutputWhen = OutputWhen.FINAL,
) -> list[str]:
    """All that is printed when a run has ended; `columns` is None for a pipe."""
    section = partial(_section, columns=columns, profile_columns=profile_columns)
    failures = [result for result in summary.results if is_failure(result)]
    lines: list[str] = []
    if success_output is OutputWhen.FINAL:
        passed = [result for result in summary.results if not is_failure(result)]
        lines += section("Output of passed tests", passed, with_output=True)
    with_output = failure_output is OutputWhen.FINAL
    lines += section("Failures", failures, with_output=with_output)
    lines += violation_lines(summary.results, columns=columns)
    if lines:
        lines.append("")
    lines.append(count_line(summary))
    lines += closing_lines(summary, columns=columns)
    lines += ledger_lines(summary.ledger)
    return lines


def _section(
    title: str,
    results: Sequence[TestResult],
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
    if len(results) > MAX_LISTED:
        lines.append(f"  and {len(results) - MAX_LISTED} more")
    return lines


def _with_all_remarks(result: TestResult, columns: int | None, profile_columns: int) -> list[str]:
    safe = [one_line(remark, REMARK_CHARACTERS) for remark in remarks(result)]
    if columns is None:
        first = f"    {safe[0]}" if safe else ""
        front = line(result, profile_columns=profile_columns, with_remark=False)
        return [front + first, *(f"  also: {remark}" for remark in safe[1:])]
    lines = [bare_line(result, columns=columns, profile_columns=profile_columns)]
    for remark in safe:
        lines += _folded(f"  {remark}", columns)
    return lines


def _folded(text: str, columns: int | None) -> list[str]:
    """`text` on as many lines as a terminal of `columns` needs; one for a pipe."""
    if columns is None or cells(text) <= columns:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()))
    # Wide characters take two columns; textwrap counts one.
    width = columns if text.isascii() else columns // 2
    return textwrap.wrap(text, max(width, 20), subsequent_indent=indent, break_on_hyphens=False)


def result_lines(
    result: TestResult, *, columns: int | None, profile_columns: int = PROFILE_COLUMNS
) -> tuple[str, ...]:
    """`line` for a pipe (`columns` None), `wrapped_lines` for a terminal."""
    if columns is None:
        return (line(result, profile_columns=profile_columns),)
    return wrapped_lines(result, columns=columns, profile_columns=profile_columns)


def violation_lines(results: Sequence[TestResult], *, columns: int | None = None) -> list[str]:
    """Each broken budget: severity, kind, test, sentence; the sentence on lines of its own on a terminal. Of
    notices one of each kind, with the number of the others: advice must not bury what is grave.
    """
    every = [(result, violation) for result in results for violation in by_gravity(result.violations)]
    found = [(r, v, 0) for r, v in every if v.severity is not Severity.NOTICE]
    hidden = len(found) - MAX_LISTED
    found = found[:MAX_LISTED]
    notices: dict[str, list[tuple[TestResult, Violation]]] = {}
    for result, violation in every:
        if violation.severity is Severity.NOTICE:
            notices.setdefault(violation.kind, []).append((result, violation))
    shown = [*found, *((*of_kind[0], len(of_kind) - 1) for of_kind in notices.values())]
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
    if hidden > 0:
        lines.append(f"  and {hidden} more")
    return lines


def count_line(summary: RunSummary) -> str:
    """`Summary [ 12.4s] 14 run: 12 passed (1 flaky), 2 failed, 3 violations`."""
    results, counts = summary.results, summary.counts
    passed = [result for result in results if result.outcome is Outcome.PASSED]
    failed = [result for result in results if result.outcome in _ENDED_BADLY]
    parts = [f"{len(passed)} passed{_kinds(passed, _passed_kind)}"]
    if failed:
        parts.append(f"{len(failed)} failed{_kinds(failed, _failed_kind)}")
    others = (Outcome.INFRA.value, Outcome.INTERRUPTED.value, Outcome.SKIPPED.value)
    parts += [f"{counts[name]} {name}" for name in others if counts[name]]
    if summary.not_run:
        parts.append(f"{len(summary.not_run)} not run")
    severities = [violation.severity for result in results for violation in result.violations]
    noticed = severities.count(Severity.NOTICE)
    if len(severities) > noticed:
        parts.append(plural(len(severities) - noticed, "violation"))
    if noticed:
        parts.append(plural(noticed, "notice"))
    front = f"{'Summary':>{VERB_COLUMNS}} [{summary.duration_seconds:5.1f}s]"
    stopped = " interrupted," if summary.status is RunStatus.INTERRUPTED else ""
    return f"{front}{stopped} {len(results)} run: {', '.join(parts)}"


def _passed_kind(result: TestResult) -> str | None:
    if result.flaky:
        return "flaky"
    if result.overruled is not None and result.verb is not Verb.UNDERSIZED:
        return "only in a fresh container"
    return "undersized" if result.verb is Verb.UNDERSIZED else None


def _failed_kind(result: TestResult) -> str | None:
    if result.flaky:
        return "flaky"
    return None if result.outcome is Outcome.FAILED else result.outcome.value


def _kinds(results: Sequence[TestResult], kind_of: Callable[[TestResult], str | None]) -> str:
    kinds = [kind for kind in map(kind_of, results) if kind]
    counted = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    return f" ({', '.join(counted)})" if counted else ""


def closing_lines(summary: RunSummary, *, columns: int | None) -> list[str]:
    """The worst by memory share, CPU and duration; how to run what went wrong again, where anything did."""
    worst = worst_of(summary.results)
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
    """For the first failure, else for the gravest broken budget; nothing went wrong: no line."""
    failed = next((result for result in summary.results if is_failure(result)), None)
    if failed is None:
        broken = [(v, r) for r in summary.results for v in r.violations if v.severity is not Severity.NOTICE]
        failed = min(broken, key=lambda pair: gravity_of(pair[0]), default=(None, None))[1]
    return [] if failed is None else [reproduce_line(summary.run, failed)]


def _short_key(result: TestResult, columns: int | None) -> str:
    name = one_line(key_of(result.final.assignment))
    return name if columns is None else shorten_middle(name, max(columns - 30, 20))


def worst_of(results: Sequence[TestResult]) -> list[tuple[TestResult, str]]:
    """The tests with the most of memory share, CPU seconds, duration, each with that figure as text."""
    found: list[tuple[TestResult, str]] = []
    for name, figure_of, text_of in (
        ("memory", memory_ratio, format_ratio),
        ("cpu", _cpu_seconds, format_cpu),
        ("duration", _duration_seconds, format_duration),
    ):
        measured = [(figure, result) for result in results if (figure := figure_of(result)) is not None]
        if measured:
            figure, result = max(measured, key=lambda pair: pair[0])
            found.append((result, f"{name} {text_of(figure)}"))
    return found


def memory_ratio(result: TestResult) -> float | None:
    """Peak memory as a share of the effective limit."""
    peak = result.final.evidence.usage.memory_peak_bytes
    limit = result.final.assignment.profile.limits.memory_bytes
    return None if peak is None or limit <= 0 else peak / limit


def _cpu_seconds(result: TestResult) -> float | None:
    return result.final.evidence.usage.cpu_seconds


def _duration_seconds(result: TestResult) -> float | None:
    # A skipped test, or one that the engine never started, took no time of its own.
    return result.final.evidence.timings.test_seconds or None


def reproduce_line(run: Run, result: TestResult) -> str:
    """`reproduce: orch repro b0b3:test/test_index.py`, quoted for a shell."""
    target = f"{run.id[:4]}:{result.test.id}"
    if one_line(target) != target:
        return f"reproduce: orch repro {run.id[:4]}:…   (the test's name cannot be typed; see orch runs show)"
    return f"reproduce: orch repro {shlex.quote(target)}"


def ledger_lines(ledger: Ledger) -> list[str]:
    """What the run left behind or did not expect; nothing to say is no line."""
    lines: list[str] = []
    if ledger.left:
        lines.append(
            f"left behind: {plural(len(ledger.left), 'object')}"
            f" ({ledger.expected_containers} containers expected, {ledger.created_containers} created);"
            " remove with: orch clean"
        )
        lines += [f"  {one_line(name)}" for name in ledger.left[:MAX_LISTED]]
    if ledger.unexpected:
        lines.append(f"unexpected: {plural(len(ledger.unexpected), 'object')} that nobody asked for")
        lines += [f"  {one_line(name)}" for name in ledger.unexpected[:MAX_LISTED]]
    return lines
