"""Reads cases from TAP on standard output, line by line through tap.py's line parser.

Not through its stream parser, which prints a warning on our own output for `TAP version 13`. Its expressions
take `okay` for a result and `1234` for a plan, so lines are checked before they reach it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tap.parser import Parser

from orchestrator.model import CaseOutcome, CaseResult
from orchestrator.suites.junit import MAX_CASES, clean, short_message, short_name

if TYPE_CHECKING:
    from tap.line import Plan, Result

TAP_BYTES = 32 << 20
_LINE_CHARS = 16_384
# Only these lines are TAP; all others are the test's own output. Numbers of at most nine digits.
_RESULT = re.compile(r"(?:not )?ok(?=\s|#|$)(?!\s*\d{10})")
_PLAN = re.compile(r"1\.\.\d{1,9}(?!\d)")
_BAIL = "Bail out!"


@dataclass(slots=True)
class TapReport:
    """What a TAP stream says; `problems` are breaches of its protocol."""

    cases: list[CaseResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    total: int = 0
    planned: int | None = None

    @property
    def spoke(self) -> bool:
        """There was any result or plan at all."""
        return self.total > 0 or self.planned is not None


def read_tap(stdout: bytes) -> TapReport:
    """Parse; never raises. Indented lines (subtests, YAML blocks) belong to the result they stand with."""
    report = TapReport()
    if len(stdout) > TAP_BYTES:
        report.problems.append(f"the TAP output is larger than {TAP_BYTES >> 20} MiB, the rest was not read")
    parser = Parser()
    for raw in stdout[:TAP_BYTES].decode("utf-8", "replace").split("\n"):
        line = raw[:_LINE_CHARS].rstrip()
        if _RESULT.match(line):
            _add_result(report, parser.parse_line(clean(line)))
        elif _PLAN.match(line):
            parsed = parser.parse_line(clean(line))
            if parsed.category == "plan":
                _add_plan(report, parsed)
        elif line.startswith(_BAIL):
            reason = short_message(clean(line.removeprefix(_BAIL).strip()))
            report.problems.append(f"the test bailed out: {reason or 'no reason given'}")
            break
    _check(report)
    return report


def _add_result(report: TapReport, result: Result) -> None:
    report.total += 1
    if result.number not in {None, report.total} and not any("out of order" in text for text in report.problems):
        report.problems.append(f"TAP numbers are out of order: {result.number} where {report.total} was due")
    if report.total > MAX_CASES:
        return
    description = result.description.removeprefix("- ").strip()
    report.cases.append(
        CaseResult(
            name=short_name(description or str(result.number or report.total)),
            outcome=_outcome(result),
            message=short_message(result.directive.reason or ""),
        )
    )


def _outcome(result: Result) -> CaseOutcome:
    """TODO: not yet expected to work. SKIP excuses only an `ok`, as in Perl's TAP::Parser."""
    if result.todo:
        return CaseOutcome.PASSED if result.ok else CaseOutcome.XFAILED
    if not result.ok:
        return CaseOutcome.FAILED
    return CaseOutcome.SKIPPED if result.skip else CaseOutcome.PASSED


def _add_plan(report: TapReport, plan: Plan) -> None:
    if report.planned is not None:
        report.problems.append("TAP has more than one plan")
        return
    report.planned = plan.expected_tests
    if plan.expected_tests == 0:
        reason = short_message((plan.directive.reason if plan.directive else None) or "")
        report.cases.append(CaseResult(name="(all)", outcome=CaseOutcome.SKIPPED, message=reason))


def _check(report: TapReport) -> None:
    if report.total > MAX_CASES:
        report.problems.append(f"TAP has {report.total} results, {MAX_CASES} are kept")
    if report.planned is None:
        if report.total:
            report.problems.append("TAP has no plan: a line such as 1..5 must come first or last")
    elif report.planned != report.total:
        report.problems.append(f"TAP planned {report.planned} tests, but {report.total} reported a result")
