"""Read a test's own results, and check them against its exit code.

No function raises an error because of what a test wrote. `problem` is a reason not to accept a pass: the results
are missing, forged, incomplete or malformed, or contain a failure that the exit code does not show.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING_CASES, CaseOutcome, CaseResult
from orchestrator.model.suites import ResultsFormat
from orchestrator.suites import pytest
from orchestrator.suites.junit import JUNIT_BYTES, MAX_CASES, Report, ResultsError, read_junit, short_message

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.model.tests import Command

_WORST_FIRST = (
    CaseOutcome.FAILED,
    CaseOutcome.ERROR,
    CaseOutcome.XFAILED,
    CaseOutcome.SKIPPED,
    CaseOutcome.PASSED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """The cases of one attempt."""

    cases: tuple[CaseResult, ...] = ()
    problem: str | None = None
    """The reason why the results cannot be trusted; with exit code 0, the test did not pass. None: they can."""
    note: str | None = None
    """A remark that does not change the outcome."""


def read_cases(command: Command, outputs: Path, stdout: bytes, exit_code: int | None) -> CaseReport:
    """Return the cases that a test reported: JUnit from `outputs`, or TAP from `stdout`; none for exit codes.

    With an `exit_code` other than 0 and 1 (None: there is none) the runner was interrupted, so that missing
    results are not a problem of their own.
    """
    match command.results:
        case ResultsFormat.JUNIT:
            report = _junit_report(command, outputs, stdout, exit_code)
        case ResultsFormat.TAP:
            report = _tap_report(stdout, _expects_results(command, exit_code), exit_code)
        case ResultsFormat.EXIT_CODE:
            return CaseReport()
    return report if report.problem else _against_exit_code(report, exit_code)


def _expects_results(command: Command, exit_code: int | None) -> bool:
    return exit_code in {0, 1} and exit_code not in command.skip_exit_codes


def _junit_report(command: Command, outputs: Path, stdout: bytes, exit_code: int | None) -> CaseReport:
    try:
        data = _read_regular(outputs / (command.results_file or ""))
        if data is None:
            expected = _expects_results(command, exit_code)
            problem = f"the runner exited {exit_code} without writing its results"
            return CaseReport(problem=problem if expected else None)
        return _believed(command, data, stdout, exit_code)
    except ResultsError as error:
        return CaseReport(problem=str(error))


def _believed(command: Command, data: bytes, stdout: bytes, exit_code: int | None) -> CaseReport:
    """Return the cases of a JUnit file. Raises ResultsError if it is forged or cannot be read."""
    expected_name = pytest.report_name(command.argv)
    if expected_name is None:
        report = read_junit(data, _plain_name)
        problem = _unusable(report, exit_code) or _shortfall(report)
        return CaseReport(cases=report.cases, problem=problem)
    # `_shortfall` is not called: pytest 9 counts passed subtests in its header and does not list them. It writes
    # header and cases together, so that an incomplete file can only be a forged one.
    report = read_junit(data, lambda classname, name: pytest.case_name(command.argv, classname, name))
    if report.suite_names != {expected_name}:
        raise ResultsError("the results file was not written by the pytest that was started")
    # pytest writes no name for a case that was started and has not ended.
    named = [case for case in report.cases if case.name]
    problem = _unusable(report, exit_code)
    if problem is None and exit_code == 0 and (len(named) < len(report.cases) or pytest.ended_early(stdout)):
        problem = "pytest exited 0, but its run was ended early: not all tests were run"
    return CaseReport(cases=_merged(named), problem=problem)


def _shortfall(report: Report) -> str | None:
    if not report.missing:
        return None
    return f"the results are short: {report.missing} of the cases that they count are not there"


def _unusable(report: Report, exit_code: int | None) -> str | None:
    if report.total > MAX_CASES:
        return f"the results name {report.total} cases, {MAX_CASES} are kept; split the test"
    if not report.total and exit_code == 0:
        return "the runner exited 0, but its results name no case"
    return None


def _tap_report(stdout: bytes, expected: bool, exit_code: int | None) -> CaseReport:
    from orchestrator.suites.tap import read_tap  # imported late, because few suites use TAP

    tap = read_tap(stdout)
    problems = tap.problems
    if not tap.has_results and not problems and expected:
        problems = [f"the test exited {exit_code} without printing TAP"]
    return CaseReport(cases=tuple(tap.cases), problem=short_message("; ".join(problems)) or None)


def _against_exit_code(report: CaseReport, exit_code: int | None) -> CaseReport:
    failing = [case.name for case in report.cases if case.outcome in FAILING_CASES]
    if exit_code == 0 and failing:
        more = f" and {len(failing) - 1} more" if len(failing) > 1 else ""
        problem = short_message(f"the runner exited 0, but a case failed: {failing[0]}{more}")
        return replace(report, problem=problem)
    if exit_code == 1 and report.cases and not failing:
        return replace(report, note="the runner exited 1, but no case failed")
    return report


def _read_regular(path: Path) -> bytes | None:
    """Return the bytes of a regular file, at most one more than the limit; None if it does not exist."""
    try:
        # The engine returns regular files only. If that ever fails, no link is followed here and opening a FIFO
        # does not block.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(f"the results file cannot be opened: {error}") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ResultsError("the results file is not a regular file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(JUNIT_BYTES + 1)
    except OSError as error:
        raise ResultsError(f"the results file cannot be read: {error.strerror}") from None
    finally:
        os.close(handle)


def _plain_name(classname: str, name: str) -> str:
    return f"{classname}::{name}" if classname else name


def _merged(cases: Iterable[CaseResult]) -> tuple[CaseResult, ...]:
    """Return one case for each node id, with the worst outcome of its elements.

    pytest writes a second element if a test fails and its teardown then has an error.
    """
    merged: dict[str, CaseResult] = {}
    for case in cases:
        first = merged.get(case.name)
        merged[case.name] = case if first is None else _worse(first, case)
    return tuple(merged.values())


def _worse(first: CaseResult, second: CaseResult) -> CaseResult:
    durations = [case.duration_seconds for case in (first, second) if case.duration_seconds is not None]
    return replace(
        min(first, second, key=lambda case: _WORST_FIRST.index(case.outcome)),
        duration_seconds=sum(durations) if durations else None,
        message=short_message("\n".join(filter(None, (first.message, second.message)))),
    )
