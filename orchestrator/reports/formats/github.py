"""GitHub annotations for a run: remarks beside the tests' files, most severe first, as many as GitHub shows.

Workflow commands: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING_CASES, Outcome
from orchestrator.model.violations import Severity
from orchestrator.reports.run_summary import TopResults, is_failure
from orchestrator.reports.tables.gates import sentence
from orchestrator.reports.tables.table import Figure
from orchestrator.reports.terminal.result_lines import remarks
from orchestrator.reports.terminal.summary import reproduce_line
from orchestrator.text import one_line, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.model.regression import GateRow
    from orchestrator.model.results import TestResult
    from orchestrator.model.runs import Run

STEP_LIMIT = 10
"""Number of annotations that GitHub shows for one step. It drops further ones silently."""
JOB_LIMIT = 50
"""Number of annotations that GitHub shows for all steps of a job together."""
MESSAGE_LINES = 12
_LINE_CHARACTERS = 500
_TITLE_CHARACTERS = 250
_MAX_PATH_CHARACTERS = 4096

_WORST_FIRST = (
    Outcome.CRASHED,
    Outcome.OOM,
    Outcome.TIMEOUT,
    Outcome.FAILED,
    Outcome.INFRA,
    Outcome.INTERRUPTED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """An annotation of a file. With an empty `path` it belongs to no file."""

    level: str
    """error, warning or notice."""
    path: str
    line: int
    title: str
    message: str


class Annotations:
    """Annotations for tests that did not pass, were flaky or have a violation above a notice. The most severe ones
    are kept, the others counted.
    """

    def __init__(self) -> None:
        self._top = TopResults(STEP_LIMIT)
        self._tests = 0
        self._errors = 0

    def add(self, results: Iterable[TestResult]) -> None:
        """Add the final results of tests."""
        for result in results:
            if _is_reported(result):
                self._tests += 1
                self._errors += _is_error(result)
                self._top.add(_rank(result), result)

    def lines(self, run: Run, *, limit: int = STEP_LIMIT) -> list[str]:
        """Return the workflow commands, most severe first, at most `limit` and never more than `STEP_LIMIT`. If
        there are more annotations, the last command has their number.
        """
        limit = min(limit, STEP_LIMIT)
        if limit <= 0 or not self._tests:
            return []
        shown = self._top.results[: limit if self._tests <= limit else limit - 1]
        lines = [command(_annotation(run, result)) for result in shown]
        if len(shown) < self._tests:
            lines.append(command(self._others(shown)))
        return lines

    def _others(self, shown: list[TestResult]) -> Annotation:
        number = self._tests - len(shown)
        return Annotation(
            level="error" if self._errors > sum(map(_is_error, shown)) else "warning",
            path="",
            line=1,
            title=f"+{number} more",
            message=f"{plural(number, 'more test')}: see the step summary and junit.xml",
        )


def _is_reported(result: TestResult) -> bool:
    grave = any(v.severity is not Severity.NOTICE for v in result.violations)
    return is_failure(result) or result.flaky or grave


def _rank(result: TestResult) -> tuple[int, int, int, str]:
    """Return the sort key: failures, then violations by severity, then flaky passes; equal ones by name, so that
    runs can be compared.
    """
    violations = sorted(v.severity.rank for v in result.violations)
    if is_failure(result):
        rank = _WORST_FIRST.index(result.outcome) if result.outcome in _WORST_FIRST else len(_WORST_FIRST)
        return (0, rank, 0, str(result.test.id))
    return (1, violations[0] if violations else 9, -len(violations), str(result.test.id))


def _annotation(run: Run, result: TestResult) -> Annotation:
    path = result.test.id.path
    usable = len(path) <= _MAX_PATH_CHARACTERS and not path.startswith("/") and ".." not in path.split("/")
    words = [*remarks(result), *_failed_cases(result), reproduce_line(run, result)]
    lines = [one_line(word, _LINE_CHARACTERS) for text in words for word in text.splitlines() if word.strip()]
    if len(lines) > MESSAGE_LINES:
        lines = [*lines[: MESSAGE_LINES - 2], f"({len(lines) - MESSAGE_LINES + 1} more lines)", lines[-1]]
    return Annotation(
        level="error" if _is_error(result) else "warning",
        path=one_line(path, _MAX_PATH_CHARACTERS + 1) if usable else "",
        line=_line_number(result),
        title=one_line(f"{result.verb.value} {result.final.assignment.key}", _TITLE_CHARACTERS),
        message="\n".join(lines),
    )


def _is_error(result: TestResult) -> bool:
    return is_failure(result) or any(v.severity is Severity.ERROR for v in result.violations)


def _failed_cases(result: TestResult) -> list[str]:
    return [f"{c.name}: {c.message.strip()[:2000]}" for c in result.final.cases if c.outcome in FAILING_CASES][:5]


def _line_number(result: TestResult) -> int:
    """Return the line number that the message of a failed case has for the test's own file, or 1."""
    place = re.compile(rf"(?:^|[\s\"'(]){re.escape(result.test.id.path)}:([0-9]{{1,7}})\b")
    for text in _failed_cases(result):
        if found := place.search(text):
            return max(1, int(found[1]))
    return 1


def check_annotations(broken: Sequence[GateRow], suspected: Sequence[GateRow]) -> list[str]:
    """Return the workflow commands of `orch check`, largest growth first: an error for each exceeded gate, a
    warning for each suspicion.
    """
    lines: list[str] = []
    for level, rows in (("error", broken), ("warning", suspected)):
        for row in rows[:STEP_LIMIT]:
            title = f"orch check: {row.resource} {Figure(row.comparison.growth, 'change')}"
            text = f"{row.test_id}: {sentence(row)}"
            path = escaped_property(one_line(row.test_id.path))
            lines.append(
                f"::{level} file={path},title={escaped_property(one_line(title))}::{escaped_data(one_line(text))}"
            )
        if len(rows) > STEP_LIMIT:
            lines.append(f"::{level} title=orch check::+{len(rows) - STEP_LIMIT} more")
    return lines


# ---------------------------------------------------------------- the commands' syntax


def command(annotation: Annotation) -> str:
    """Return the workflow command `::error file=…,line=…,title=…::message` on one line."""
    place = {"file": annotation.path, "line": str(annotation.line)} if annotation.path else {}
    properties = ",".join(
        f"{name}={escaped_property(value)}" for name, value in {**place, "title": annotation.title}.items()
    )
    return f"::{annotation.level} {properties}::{escaped_data(annotation.message)}"


def escaped_data(text: str) -> str:
    """Escape the message of a command as the runner expects it (`escapeData` in command.ts of actions/toolkit)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escaped_property(text: str) -> str:
    """Escape the value of a property, which a colon or comma would end (`escapeProperty` in command.ts)."""
    return escaped_data(text).replace(":", "%3A").replace(",", "%2C")


def stop_commands(token: str) -> str:
    """Return the command after which the runner ignores commands until `resume_commands`, so that tests cannot
    print any. The runner looks for `##[…]` anywhere in a line, so the bar in front of a test's output is no
    protection.
    """
    return f"::stop-commands::{token}"


def resume_commands(token: str) -> str:
    """Return the command that ends `stop_commands`."""
    return f"::{token}::"
