"""Report of a run in the Common Test Report Format (CTRF). A test is a test there, and its cases are steps.

Specification: https://github.com/ctrf-io/ctrf (schema/ctrf.schema.json there). CTRF has five statuses; the verb is
in `rawStatus`, resource usage in `extra`.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.files import SpooledText, write_atomically
from orchestrator.model.outcomes import FAILING_CASES, CaseOutcome, Outcome
from orchestrator.model.results import counted_attempts
from orchestrator.reports.json_encoding import to_json
from orchestrator.reports.tables.columns import in_own_memory
from orchestrator.reports.terminal.output_tail import tail_lines
from orchestrator.text import NAME_CHARACTERS, TEXT_CHARACTERS, bounded, one_line, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.reports.run_summary import RunSummary

Document = dict[str, Any]

SPEC_VERSION = "1.0.0"
STATUSES = ("passed", "failed", "skipped", "pending", "other")

_STATUS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.TIMEOUT: "failed",
    Outcome.OOM: "failed",
    Outcome.CRASHED: "failed",
    Outcome.SKIPPED: "skipped",
    Outcome.INFRA: "other",
    Outcome.INTERRUPTED: "other",
}
_CASE_STATUS = {
    CaseOutcome.FAILED: "failed",
    CaseOutcome.ERROR: "failed",
    CaseOutcome.SKIPPED: "skipped",
    CaseOutcome.XFAILED: "skipped",
}


class CtrfReport:
    """Report of one run. The text of a test is made when the test has ended, and copied to the report at the end
    of the run.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the texts of tests in an unnamed file on the disk of `folder`. Raises OSError."""
        self._tests = SpooledText(folder)
        self._statuses: Counter[str] = Counter()
        self._suites: set[str] = set()

    def add(self, results: Iterable[TestResult]) -> None:
        """Add the final results of tests. Raises OSError."""
        for result in results:
            test = _test(result)
            self._tests.add(_listed(test, self._statuses.total()))
            self._statuses[test["status"]] += 1
            self._suites.add(result.test.suite)

    def write(self, summary: RunSummary, path: Path) -> None:
        """Write the report atomically. Raises OSError."""
        write_atomically(path, self.pieces(summary))

    def pieces(self, summary: RunSummary) -> Iterator[bytes]:
        """Yield the whole report as `to_json` would format it. The list of tests, which may be long, is not held
        in memory. Times are whole milliseconds, points in time count from 1970.
        """
        results = {"tool": {"name": "orch", "version": __version__}, "summary": self._summary(summary)}
        yield f'{_open(_head(summary), 0)},\n  "results": {_open(results, 1)},\n    "tests": ['.encode()
        yield from self._tests.read()
        ended = self._statuses.total()
        for listed, name in enumerate(summary.not_run, ended):
            yield _listed({"name": _name(name), "status": "pending", "duration": 0}, listed).encode()
        end = "\n    ]" if ended or summary.not_run else "]"
        yield f'{end},\n    "environment": {_inside(_environment(summary), 2)}\n  }}\n}}\n'.encode()

    def _summary(self, summary: RunSummary) -> Document:
        statuses = self._statuses + Counter(pending=len(summary.not_run))
        start, duration = _since_1970(summary.run.started_at), _milliseconds(summary.duration_seconds)
        return {
            "tests": statuses.total(),
            **{status: statuses[status] for status in STATUSES},
            "flaky": summary.totals.flaky_tests,
            "suites": len(self._suites),
            "start": start,
            "stop": start + duration,
            "duration": duration,
            "extra": {"exitCode": summary.exit_code, "status": summary.status.value},
        }


def _head(summary: RunSummary) -> Document:
    return {
        "reportFormat": "CTRF",
        "specVersion": SPEC_VERSION,
        "reportId": summary.run.id,
        "timestamp": (summary.run.started_at + timedelta(seconds=summary.duration_seconds)).isoformat(),
        "generatedBy": f"orch {__version__}",
    }


def _listed(test: Document, before: int) -> str:
    """Return the text of a list element behind `before` others."""
    return f"{',' if before else ''}\n      {_inside(test, 3)}"


def _inside(document: Mapping[str, Any], depth: int) -> str:
    """Return `document` as JSON, indented for its depth in the report. Newlines inside strings are escaped, so
    that only the layout is indented.
    """
    return to_json(document).replace("\n", "\n" + "  " * depth)


def _open(document: Mapping[str, Any], depth: int) -> str:
    """Return the text of `_inside` without the closing brace."""
    return _inside(document, depth).removesuffix("\n" + "  " * depth + "}")


def _environment(summary: RunSummary) -> Document:
    run = summary.run
    known = {
        "appName": one_line(run.project, NAME_CHARACTERS),
        "commit": run.revision,
        "branchName": run.branch,
        "osPlatform": run.engine.operating_system,
        "osRelease": run.host.kernel,
    }
    return {name: one_line(value, NAME_CHARACTERS) for name, value in known.items() if value}


def _test(result: TestResult) -> Document:
    attempt, attempts = result.final, counted_attempts(result.attempts)
    found: Document = {
        "name": _name(attempt.assignment.key),
        "status": _STATUS[result.outcome],
        **_times(attempt),
        "suite": [_name(result.test.suite)],
        "rawStatus": result.verb.value,
        "filePath": _name(result.test.id.path),
        "retries": len(attempts) - 1,
        "flaky": result.flaky and result.outcome is Outcome.PASSED,
        "tags": sorted(_name(marker) for marker in result.test.markers),
        "steps": [
            {"name": _name(case.name), "status": _CASE_STATUS.get(case.outcome, "passed")}
            for case in attempt.cases
        ],
        "extra": _extra(result),
        **_texts(attempt, with_output=result.outcome is not Outcome.PASSED),
    }
    if len(attempts) > 1:
        found["retryAttempts"] = [_retry(number, one) for number, one in enumerate(attempts, 1)]
    return found


def _retry(number: int, attempt: Attempt) -> Document:
    return {
        "attempt": number,
        "status": _STATUS[attempt.outcome],
        **_times(attempt),
        "extra": {"profile": attempt.assignment.profile.name, "outcome": attempt.outcome.value},
        **_texts(attempt, with_output=attempt.outcome is not Outcome.PASSED),
    }


def _times(attempt: Attempt) -> Document:
    evidence = attempt.evidence
    start, duration = _since_1970(evidence.started_at), _milliseconds(evidence.timings.test_seconds)
    return {"duration": duration, "start": start, "stop": start + duration}


def _texts(attempt: Attempt, *, with_output: bool) -> Document:
    """Return the message, the messages of failed cases and the ends of both output streams, as far as there are
    any.
    """
    trace = "\n\n".join(f"{c.name}\n{c.message}" for c in attempt.cases if c.outcome in FAILING_CASES)
    found: Document = {}
    if attempt.message:
        found["message"] = visible(bounded(attempt.message, TEXT_CHARACTERS))
    if trace:
        found["trace"] = visible(bounded(trace, TEXT_CHARACTERS))
    if with_output:
        for name, log in (("stdout", attempt.evidence.stdout), ("stderr", attempt.evidence.stderr)):
            if lines := tail_lines(log)[0]:
                found[name] = lines
    return found


def _extra(result: TestResult) -> Document:
    usage, profile = result.final.evidence.usage, result.final.assignment.profile
    return {
        "profile": profile.name,
        "reason": one_line(result.final.assignment.reason, NAME_CHARACTERS),
        "cpuSeconds": usage.cpu_seconds,
        "memoryPeakBytes": usage.memory_peak_bytes,
        **({"memoryPeakBound": bound} if (bound := in_own_memory(usage).bound) else {}),
        "memoryLimitBytes": profile.limits.memory_bytes,
        "violations": [
            {"kind": v.kind.value, "severity": v.severity.value, "message": one_line(v.message)}
            for v in result.violations
        ],
    }


def _name(text: str) -> str:
    return one_line(text, NAME_CHARACTERS) or "(no name)"


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _since_1970(moment: datetime) -> int:
    """Return the time in milliseconds since 1970."""
    return round(moment.timestamp() * 1000)
