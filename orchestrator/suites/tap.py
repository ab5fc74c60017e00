"""Read cases from TAP on standard output; docs/design/suites/tap.md has the rules and why no library is used.

https://testanything.org/tap-version-13-specification.html,
https://testanything.org/tap-version-14-specification.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from orchestrator.model.outcomes import CaseOutcome, CaseResult
from orchestrator.suites.junit import MAX_CASES, clean, short_message, short_name

TAP_BYTES = 32 << 20
_LINE_CHARS = 16_384
# Only these lines are TAP; all others are the test's own output. Numbers of at most nine digits.
_RESULT = re.compile(r"(?P<not>not )?ok(?=\s|#|$)(?:\s+(?P<number>\d{1,9})(?=\s|$))?(?P<rest>.*)", re.DOTALL)
_PLAN = re.compile(r"1\.\.(?P<planned>\d{1,9})(?=\s|#|$)(?P<rest>.*)", re.DOTALL)
_BAIL = re.compile(r"Bail out!(?P<reason>.*)", re.DOTALL | re.IGNORECASE)
_ESCAPED = re.compile(r"\\([\\#])")
_DIRECTIVE = re.compile(r"(?<!\S)#\s*(?P<word>TODO|SKIP)(?![\w-])[:\s]*(?P<reason>.*)", re.DOTALL | re.IGNORECASE)
_PLAN_REASON = re.compile(r"\s*#?\s*(?:SKIP\w*)?[:\s]*(?P<reason>.*)", re.DOTALL | re.IGNORECASE)


@dataclass(slots=True)
class TapReport:
    """The contents of a TAP stream; `problems` are violations of the protocol."""

    cases: list[CaseResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    total: int = 0
    planned: int | None = None

    @property
    def has_results(self) -> bool:
        """True if the stream contains a result or a plan."""
        return self.total > 0 or self.planned is not None


def read_tap(stdout: bytes) -> TapReport:
    """Parse a TAP stream; never raises. Indented lines (subtests, YAML blocks) belong to the result before them
    and are ignored.
    """
    report = TapReport()
    if len(stdout) > TAP_BYTES:
        report.problems.append(f"the TAP output is larger than {TAP_BYTES >> 20} MiB, the rest was not read")
    for raw in stdout[:TAP_BYTES].decode("utf-8", "replace").split("\n"):
        line = raw[:_LINE_CHARS].rstrip()
        if result := _RESULT.match(line):
            _add_result(report, result)
        elif plan := _PLAN.match(line):
            _add_plan(report, int(plan["planned"]), plan["rest"])
        elif bail := _BAIL.match(line):
            reason = short_message(clean(bail["reason"].strip()))
            report.problems.append(f"the test bailed out: {reason or 'no reason given'}")
            break
    _check(report)
    return report


def _add_result(report: TapReport, result: re.Match[str]) -> None:
    report.total += 1
    number = None if result["number"] is None else int(result["number"])
    if number not in {None, report.total} and not any("out of order" in text for text in report.problems):
        report.problems.append(f"TAP numbers are out of order: {number} where {report.total} was due")
    if report.total > MAX_CASES:
        return
    name, directive, reason = split_directive(result["rest"])
    name = name.strip().removeprefix("- ").strip()
    report.cases.append(
        CaseResult(
            name=short_name(clean(name) or str(number or report.total)),
            outcome=_outcome(directive, ok=result["not"] is None),
            message=short_message(clean(reason)),
        )
    )


def split_directive(text: str) -> tuple[str, str, str]:
    r"""Return (description, directive, reason) of the text after `ok` and its number; directive is "todo", "skip"
    or "".

    A directive is TODO or SKIP, in any case, as a word after an unescaped `#` that follows a blank. `\#` and `\\`
    stand for `#` and `\` in description and reason; any other `#` or `\` is itself.
    """
    # Escaped characters are replaced by NUL during the search, so that they are not taken for a directive.
    hidden = _ESCAPED.sub("\0\0", text)
    found = _DIRECTIVE.search(hidden)
    if found is None:
        return _unescaped(text), "", ""
    return _unescaped(text[: found.start()]), found["word"].lower(), _unescaped(text[found.start("reason") :])


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _outcome(directive: str, *, ok: bool) -> CaseOutcome:
    """Return the outcome of a result. TODO means not yet expected to work; SKIP applies to `ok` only, as in Perl's
    TAP::Parser.
    """
    if directive == "todo":
        return CaseOutcome.PASSED if ok else CaseOutcome.XFAILED
    if not ok:
        return CaseOutcome.FAILED
    return CaseOutcome.SKIPPED if directive == "skip" else CaseOutcome.PASSED


def _add_plan(report: TapReport, planned: int, rest: str) -> None:
    if report.planned is not None:
        report.problems.append("TAP has more than one plan")
        return
    report.planned = planned
    if planned == 0:
        reason = _PLAN_REASON.match(clean(rest))
        message = short_message(_unescaped(reason["reason"] if reason else ""))
        report.cases.append(CaseResult(name="(all)", outcome=CaseOutcome.SKIPPED, message=message))


def _check(report: TapReport) -> None:
    if report.total > MAX_CASES:
        report.problems.append(f"TAP has {report.total} results, {MAX_CASES} are kept")
    if report.planned is None:
        if report.total:
            report.problems.append("TAP has no plan: a line such as 1..5 must come first or last")
    elif report.planned != report.total:
        report.problems.append(f"TAP planned {report.planned} tests, but {report.total} reported a result")
