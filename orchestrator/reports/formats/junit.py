"""Report of a run as JUnit XML in the Jenkins dialect: a testsuite for each test, a testcase for each of its
cases.

Retries are Surefire's `flakyFailure` and `rerunFailure` elements, resource usage is in properties of the suite.
The file is valid XML 1.0 for any output of tests.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

from orchestrator.files import SpooledText, write_atomically
from orchestrator.model.outcomes import FAILING_CASES, SUCCESSFUL, CaseOutcome, CaseResult, Outcome
from orchestrator.model.results import Verb, counted_attempts
from orchestrator.reports.tables.columns import figure_of
from orchestrator.reports.terminal.output_tail import tail_text
from orchestrator.text import NAME_CHARACTERS, TEXT_CHARACTERS, bounded, one_line, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.usage import Usage
    from orchestrator.reports.run_summary import RunSummary

_COUNTS = ("tests", "failures", "errors")
"""Counts that the report sums over its suites."""


class JUnitReport:
    """Report of one run. The text of a suite is made when its test has ended, and copied to the report at the end
    of the run.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the texts of suites in an unnamed file on the disk of `folder`. Raises OSError."""
        self._suites = SpooledText(folder)
        self._totals: Counter[str] = Counter()

    def add(self, results: Iterable[TestResult]) -> None:
        """Add the final results of tests. Raises OSError."""
        self._suites.add("".join([_suite_text(result, self._totals) for result in results]))

    def write(self, summary: RunSummary, path: Path) -> None:
        """Write the report atomically. Raises OSError."""
        write_atomically(path, self.pieces(summary))

    def pieces(self, summary: RunSummary) -> Iterator[bytes]:
        """Yield the report as UTF-8."""
        root = ET.Element("testsuites", _root_attributes(summary, self._totals))
        empty = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        if not self._totals:
            yield empty + b"\n"
            return
        yield empty.removesuffix(b" />") + b">\n"
        yield from self._suites.read()
        yield b"</testsuites>\n"


def _root_attributes(summary: RunSummary, totals: Mapping[str, int]) -> dict[str, str]:
    counts = {name: str(totals.get(name, 0)) for name in _COUNTS}
    return {
        "name": f"orch run {summary.run.short_id}",
        **counts,
        "time": _seconds(summary.duration_seconds),
    }


def _suite_text(result: TestResult, totals: Counter[str]) -> str:
    """Return a suite as indented text with a newline, and add its counts to `totals`."""
    attempt = result.final
    passed_at_once = len(result.attempts) == 1 and result.verb is Verb.PASS and attempt.outcome is Outcome.PASSED
    if passed_at_once and not attempt.cases:
        totals["tests"] += 1
        return _plain_pass(result, attempt)
    suite = _suite(result)
    for name in _COUNTS:
        totals[name] += int(suite.get(name, "0"))
    ET.indent(suite, level=1)
    return f"  {ET.tostring(suite, encoding='unicode')}\n"


def _plain_pass(result: TestResult, attempt: Attempt) -> str:
    """Return the same text as `_suite` for a test that passed in its first attempt and has no cases, in a third of
    the time. Most tests of a large run are of this kind, and their text is made while other tests run.
    """
    suite = _attributes(_suite_attributes(result, attempt, tests=1, failures=0, errors=0, skipped=0))
    case = _attributes(_case_attributes(result, str(result.test.id), attempt.evidence.timings.test_seconds))
    assignment = attempt.assignment
    limits = assignment.profile.limits
    origin = _origin_lines(
        result.outcome, result.verb, assignment.profile.name, assignment.reason, assignment.test.suite
    )
    figures = _lines(_figure_pairs(attempt.evidence.usage))
    limit = _limit_lines(limits.memory_bytes, limits.cpus, limits.timeout_seconds)
    history = _lines(_history_pairs(result, attempt))
    return (
        f"  <testsuite {suite}>\n"
        f"    <properties>\n{origin}{figures}{limit}{history}    </properties>\n"
        f"    <testcase {case} />\n"
        "  </testsuite>\n"
    )


def _lines(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join([_line(*pair) for pair in pairs])


# Most properties are the same for most tests, so their text is cached.


@lru_cache(maxsize=512)
def _line(name: str, value: str) -> str:
    return f'      <property name="{name}" value="{_attribute(one_line(value, TEXT_CHARACTERS))}" />\n'


@lru_cache(maxsize=256)
def _origin_lines(outcome: Outcome, verb: Verb, profile: str, reason: str, suite: str) -> str:
    return _lines(_origin_pairs(outcome, verb, profile, reason, suite, flaky=False))


@lru_cache(maxsize=256)
def _limit_lines(memory_bytes: int, cpus: float, timeout_seconds: float) -> str:
    return _lines(_limit_pairs(memory_bytes, cpus, timeout_seconds))


def _attributes(attributes: Mapping[str, str]) -> str:
    return " ".join([f'{name}="{_attribute(value)}"' for name, value in attributes.items()])


def _attribute(value: str) -> str:
    """Return `value`, which is on one line, with XML markup escaped."""
    if not _MARKUP.isdisjoint(value):
        value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return value


_MARKUP = frozenset('&<>"')


def junit_element(summary: RunSummary, results: Iterable[TestResult]) -> ET.Element:
    """Return the whole report as an element tree."""
    suites = [_suite(result) for result in results]
    totals = {name: sum(int(suite.get(name, "0")) for suite in suites) for name in _COUNTS}
    root = ET.Element("testsuites", _root_attributes(summary, totals))
    root.extend(suites)
    return root


def _suite(result: TestResult) -> ET.Element:
    attempt = result.final
    cases = _testcases(result)
    failures, errors, skipped = (
        sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error", "skipped")
    )
    numbers = {"tests": len(cases), "failures": failures, "errors": errors, "skipped": skipped}
    suite = ET.Element("testsuite", _suite_attributes(result, attempt, **numbers))
    suite.append(_properties(result))
    suite.extend(cases)
    if any(earlier.outcome not in SUCCESSFUL for earlier in result.attempts):
        _add_output(suite, attempt)
    return suite


def _suite_attributes(
    result: TestResult, attempt: Attempt, *, tests: int, failures: int, errors: int, skipped: int
) -> dict[str, str]:
    return {
        "name": _name(attempt.assignment.key),
        "tests": str(tests),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": str(skipped),
        "time": _seconds(attempt.evidence.timings.test_seconds),
        "timestamp": attempt.evidence.started_at.replace(tzinfo=None).isoformat(timespec="seconds"),
        "file": _name(result.test.id.path),
    }


# ---------------------------------------------------------------- properties


def _properties(result: TestResult) -> ET.Element:
    element = ET.Element("properties")
    for name, value in _property_pairs(result):
        ET.SubElement(element, "property", name=name, value=one_line(value, TEXT_CHARACTERS))
    return element


def _property_pairs(result: TestResult) -> Iterable[tuple[str, str]]:
    """Yield the `orch.*` properties of a test. A figure that was not measured has no property."""
    attempt = result.final
    profile = attempt.assignment.profile
    limits = profile.limits
    reason, suite = attempt.assignment.reason, result.test.suite
    yield from _origin_pairs(result.outcome, result.verb, profile.name, reason, suite, flaky=result.flaky)
    yield from _figure_pairs(attempt.evidence.usage)
    yield from _limit_pairs(limits.memory_bytes, limits.cpus, limits.timeout_seconds)
    yield from _history_pairs(result, attempt)


def _origin_pairs(
    outcome: Outcome, verb: Verb, profile: str, reason: str, suite: str, *, flaky: bool
) -> Iterable[tuple[str, str]]:
    yield "orch.outcome", outcome.value
    yield "orch.verb", verb.value
    yield "orch.flaky", str(flaky).lower()
    yield "orch.profile", profile
    yield "orch.reason", reason
    yield "orch.suite", suite


def _figure_pairs(usage: Usage) -> Iterable[tuple[str, str]]:
    for name in ("cpu_seconds", "memory_peak_bytes", "pids_peak", "oom_kills", "throttled_seconds"):
        value = getattr(usage, name)
        if value is not None:
            yield f"orch.{name}", f"{value:.6f}" if isinstance(value, float) else str(value)
            if bound := figure_of(usage, name, "").bound:
                yield f"orch.{name}.bound", bound
            yield f"orch.{name}.source", usage.sources[name].value if name in usage.sources else "unknown"


def _limit_pairs(memory_bytes: int, cpus: float, timeout_seconds: float) -> Iterable[tuple[str, str]]:
    yield "orch.limit.memory_bytes", str(memory_bytes)
    yield "orch.limit.cpus", f"{cpus:g}"
    yield "orch.limit.timeout_seconds", f"{timeout_seconds:g}"


def _history_pairs(result: TestResult, attempt: Attempt) -> Iterable[tuple[str, str]]:
    yield "orch.attempts", str(len(result.attempts))
    for earlier in result.attempts[:-1]:
        what = f"{earlier.outcome.value} under {earlier.assignment.profile.name}: {earlier.message}"
        yield f"orch.attempt.{earlier.assignment.attempt}", what
    for number, violation in enumerate(attempt.violations, 1):
        yield f"orch.violation.{number}", f"{violation.kind}: {violation.message}"


# ---------------------------------------------------------------- testcases


def _testcases(result: TestResult) -> list[ET.Element]:
    """Return the elements of the runner's cases, and one for the test itself if no case explains its outcome."""
    attempts = _counted_attempts(result)
    # A runner can report two cases of the same name; their order distinguishes them.
    histories = [_failed_by_key(attempt) for attempt in attempts]
    elements = [
        _case(result, key, case, [history[key] for history in histories if key in history])
        for key, case in _keyed(result.final)
    ]
    if not elements or any(_unexplained(attempt) for attempt in attempts):
        elements.append(_whole(result, attempts))
    return elements


def _counted_attempts(result: TestResult) -> Sequence[Attempt]:
    """Return the attempts that the report shows as retries. A pass under a larger profile or after an engine
    failure is not flaky, and a failure in a reused slot that was repeated in a fresh one is not a retry.
    """
    return (
        counted_attempts(result.attempts)
        if result.flaky or result.outcome not in SUCCESSFUL
        else result.attempts[-1:]
    )


def _keyed(attempt: Attempt) -> Iterable[tuple[tuple[str, int], CaseResult]]:
    seen: Counter[str] = Counter()
    for case in attempt.cases:
        yield (case.name, seen[case.name]), case
        seen[case.name] += 1


def _failed_by_key(attempt: Attempt) -> dict[tuple[str, int], CaseResult]:
    return {key: case for key, case in _keyed(attempt) if case.outcome in FAILING_CASES}


def _unexplained(attempt: Attempt) -> bool:
    """Return whether the attempt failed and none of its cases explains that (a timeout, an OOM, an exit code)."""
    if attempt.outcome in SUCCESSFUL:
        return False
    return attempt.outcome is not Outcome.FAILED or not any(c.outcome in FAILING_CASES for c in attempt.cases)


def _forbidden_flaky(result: TestResult) -> bool:
    """Return whether the last attempt passed but the flaky policy of the run makes the test a failure."""
    return result.outcome not in SUCCESSFUL and result.final.outcome in SUCCESSFUL


def _case(result: TestResult, key: tuple[str, int], case: CaseResult, failed: Sequence[CaseResult]) -> ET.Element:
    element = _testcase(result, case.name or f"case {key[1] + 1}", case.duration_seconds)
    failures = [_Failure(c.outcome is CaseOutcome.ERROR, c.outcome.value, c.message) for c in failed]
    passed = case.outcome not in FAILING_CASES and not _forbidden_flaky(result)
    _add_failures(element, failures, passed=passed)
    if case.outcome is CaseOutcome.SKIPPED:
        _add_text(element, "skipped", case.message, kind="skipped")
    elif case.outcome is CaseOutcome.XFAILED:
        _add_text(element, "skipped", case.message or "expected failure", kind="xfail")
    return element


def _whole(result: TestResult, attempts: Sequence[Attempt]) -> ET.Element:
    """Return the element for the test itself."""
    element = _testcase(result, str(result.test.id), result.final.evidence.timings.test_seconds)
    failures = [
        _Failure(attempt.outcome is not Outcome.FAILED, attempt.outcome.value, attempt.message, attempt)
        for attempt in attempts
        if _unexplained(attempt)
    ]
    passed = not _unexplained(result.final) and not _forbidden_flaky(result)
    _add_failures(element, failures, passed=passed)
    if result.outcome is Outcome.SKIPPED:
        _add_text(element, "skipped", result.final.message, kind="skipped")
    return element


def _testcase(result: TestResult, name: str, seconds: float | None) -> ET.Element:
    return ET.Element("testcase", _case_attributes(result, name, seconds))


def _case_attributes(result: TestResult, name: str, seconds: float | None) -> dict[str, str]:
    path = result.test.id.path
    classname = path.rpartition(".")[0].replace("/", ".") if "." in path.rpartition("/")[2] else path
    known = {} if seconds is None else {"time": _seconds(seconds)}
    return {"classname": _name(classname), "name": _name(name), **known}


class _Failure(NamedTuple):
    is_error: bool
    kind: str
    message: str
    attempt: Attempt | None = None
    """The attempt whose output belongs to this failure."""


def _add_failures(element: ET.Element, failures: Sequence[_Failure], *, passed: bool) -> None:
    """Add the failures: as flaky ones if the test passed in the end; otherwise the first is the failure and the
    others are its reruns.
    """
    for number, failure in enumerate(failures):
        word, text = "Error" if failure.is_error else "Failure", failure.message or failure.kind
        if not passed and number == 0:
            _add_text(element, word.lower(), text, kind=failure.kind)
            continue
        tag = f"flaky{word}" if passed else f"rerun{word}"
        rerun = _add_text(element, tag, text, kind=failure.kind, nested=True)
        if failure.attempt is not None:
            _add_output(rerun, failure.attempt)


def _add_text(element: ET.Element, tag: str, message: str, *, kind: str, nested: bool = False) -> ET.Element:
    """Add and return a child with a one-line message and the whole text, which for reruns is in a `stackTrace`."""
    child = ET.SubElement(element, tag, type=kind, message=one_line(message.strip().partition("\n")[0], 1000))
    holder = ET.SubElement(child, "stackTrace") if nested else child
    holder.text = _text(message)
    return child


def _add_output(element: ET.Element, attempt: Attempt) -> None:
    for tag, log in (("system-out", attempt.evidence.stdout), ("system-err", attempt.evidence.stderr)):
        if text := tail_text(log):
            ET.SubElement(element, tag).text = _text(text)


def _text(text: str) -> str:
    # ElementTree does not escape control characters, which XML 1.0 parsers must reject.
    return visible(bounded(text, TEXT_CHARACTERS))


def _name(name: str) -> str:
    return one_line(name, NAME_CHARACTERS)


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0.0):.3f}"
