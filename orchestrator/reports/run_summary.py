"""The totals and bounded lists that the reports of a finished run need, updated while results come in.

The size does not depend on the number of tests (docs/design/coordinator/cost.md). Reports that have an entry for
each test write it to a file at once: the run's events, `junit`, `ctrf`.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from orchestrator.model.outcomes import FAILING, SUCCESSFUL, Outcome
from orchestrator.model.results import Verb
from orchestrator.model.runs import Ledger
from orchestrator.model.violations import Severity, by_severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orchestrator.model.evidence import OutputLog
    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.runs import Run, RunStatus
    from orchestrator.model.suites import LeftOut
    from orchestrator.model.violations import Violation

MAX_OUTPUTS = 30
"""Maximum number of failures that are reported with their output; the same for passed tests."""
MAX_LISTED = 200
MAX_ROWS = 500
"""Maximum number of rows of a table in a report."""
MOST_MEMORY = 10

_FIRST = itemgetter(0)


class TopResults:
    """The `limit` results with the lowest keys. Results with equal keys stay in the order of arrival."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: list[tuple[Any, TestResult]] = []

    def add(self, key: Any, result: TestResult) -> None:
        """Add a result if its key is among the lowest. Keys must be comparable with each other."""
        kept = self._kept
        if len(kept) < self._limit or key < kept[-1][0]:
            insort(kept, (key, without_samples(result)), key=_FIRST)
            del kept[self._limit :]

    @property
    def results(self) -> list[TestResult]:
        """The kept results in the order of their keys."""
        return [result for _, result in self._kept]


@dataclass(slots=True)
class NoticeGroup:
    """A kind of notice: the first test that has one, and the number of notices of this kind."""

    result: TestResult
    violation: Violation
    times: int = 1


class ResultTotals:
    """Counts of a run's results, and lists of the first ones of each kind. Each bounded list has a count of all
    its results beside it.
    """

    def __init__(self) -> None:
        self.tests = 0
        self.flaky_tests = 0
        self.absent_tests = 0
        """The number of selected cases that do not exist; they count as skipped."""
        self.reused_tests = 0
        """The number of tests whose deciding attempt ran in a container that earlier tests had used."""
        self.outcomes: Counter[Outcome] = Counter()
        self.passed_kinds: Counter[str] = Counter()
        """The number of passed tests by what is special about the pass (`flaky`, `undersized`), in the order of
        occurrence.
        """
        self.failed_kinds: Counter[str] = Counter()
        self.failures: list[TestResult] = []
        """The first `MAX_ROWS` failures; the first `MAX_OUTPUTS` of them have their output."""
        self.successful: list[TestResult] = []
        """The first `MAX_LISTED` passed or skipped tests; the first `MAX_OUTPUTS` of them have their output."""
        self.flaky: list[TestResult] = []
        """The first `MAX_ROWS` tests that passed after a failure."""
        self.violations: Counter[str] = Counter()
        """The number of violations by kind."""
        self.serious_violations = 0
        """The number of violations that are more severe than notices."""
        self.listed_violations: list[tuple[TestResult, Violation]] = []
        """The first `MAX_LISTED` violations that are more severe than notices, each with its test."""
        self.most_severe: tuple[int, TestResult] | None = None
        """The severity rank of the most severe violation, and the first test that has it. Notices do not count."""
        self.notices: dict[str, NoticeGroup] = {}
        """Notices by kind, in the order of occurrence."""
        self.worst: dict[str, tuple[float, TestResult]] = {}
        """The highest figure and its test, by name: memory as a share of the limit, CPU seconds, duration in
        seconds.
        """
        self.most_memory = TopResults(MOST_MEMORY)

    @property
    def failed_tests(self) -> int:
        """The number of tests that neither passed nor were skipped."""
        return self.tests - self.successful_tests

    @property
    def successful_tests(self) -> int:
        """The number of tests that passed or were skipped."""
        return self.outcomes[Outcome.PASSED] + self.outcomes[Outcome.SKIPPED]

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of tests by outcome, plus `tests`, `flaky` and `violations`."""
        return {
            "tests": self.tests,
            "flaky": self.flaky_tests,
            "violations": self.violations.total(),
            **{outcome.value: self.outcomes[outcome] for outcome in Outcome},
        }

    def add(self, results: Iterable[TestResult]) -> None:
        """Add the final results of tests."""
        for result in results:
            self.tests += 1
            self.outcomes[result.outcome] += 1
            self.absent_tests += result.final.absent
            self._list(result)
            final = result.final
            self.reused_tests += final.evidence.slot.position > 1
            if final.violations:
                self._note_violations(result, final.violations)
            self._compare(result, final)

    def _list(self, result: TestResult) -> None:
        if is_failure(result):
            if len(self.failures) < MAX_ROWS:
                self.failures.append(without_samples(result, keep_output=len(self.failures) < MAX_OUTPUTS))
        elif len(self.successful) < MAX_LISTED:
            self.successful.append(without_samples(result, keep_output=len(self.successful) < MAX_OUTPUTS))
        if result.flaky:
            self.flaky_tests += 1
            if not is_failure(result) and len(self.flaky) < MAX_ROWS:
                self.flaky.append(without_samples(result))
        if result.outcome is Outcome.PASSED:
            if kind := _passed_kind(result):
                self.passed_kinds[kind] += 1
        elif result.outcome in FAILING and (kind := _failed_kind(result)):
            self.failed_kinds[kind] += 1

    def _note_violations(self, result: TestResult, found: Iterable[Violation]) -> None:
        kept = without_samples(result)
        for violation in by_severity(found):
            self.violations[violation.kind.value] += 1
            if violation.severity is Severity.NOTICE:
                if known := self.notices.get(violation.kind):
                    known.times += 1
                else:
                    self.notices[violation.kind] = NoticeGroup(kept, violation)
                continue
            self.serious_violations += 1
            if len(self.listed_violations) < MAX_LISTED:
                self.listed_violations.append((kept, violation))
            rank = violation.severity.rank
            if self.most_severe is None or rank < self.most_severe[0]:
                self.most_severe = rank, kept

    def _compare(self, result: TestResult, final: Attempt) -> None:
        for name, figure_of in FIGURES:
            figure = figure_of(final)
            if figure is not None and (name not in self.worst or figure > self.worst[name][0]):
                self.worst[name] = figure, without_samples(result)
        peak = final.evidence.usage.memory_peak_bytes
        if peak is not None:
            self.most_memory.add((-peak, str(result.test.id)), result)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """The end of a run, as all reports need it."""

    run: Run
    status: RunStatus
    totals: ResultTotals
    not_run: tuple[str, ...] = ()
    """Ids of planned tests that were not run because the run was stopped."""
    left_out: tuple[LeftOut, ...] = ()
    """Tests that were found and could not be planned."""
    duration_seconds: float
    exit_code: int
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def counts(self) -> Mapping[str, int]:
        """The counts of the totals, see `ResultTotals.counts`."""
        return self.totals.counts


# ---------------------------------------------------------------- one result


def without_samples(result: TestResult, *, keep_output: bool = False) -> TestResult:
    """Return the result without its time series and, unless `keep_output`, without the ends of its output."""
    return replace(result, attempts=tuple([_attempt_without_samples(a, keep_output) for a in result.attempts]))


def _attempt_without_samples(attempt: Attempt, keep_output: bool) -> Attempt:
    evidence = attempt.evidence
    changed = replace(
        evidence,
        samples=(),
        stdout=_log_without_chunks(evidence.stdout, keep_output),
        stderr=_log_without_chunks(evidence.stderr, keep_output),
    )
    return replace(attempt, evidence=changed)


def _log_without_chunks(log: OutputLog, keep_output: bool) -> OutputLog:
    return replace(log, chunks=(), tail=log.tail if keep_output else b"")


def is_failure(result: TestResult) -> bool:
    """Return whether the test neither passed nor was skipped."""
    return result.outcome not in SUCCESSFUL


def _passed_kind(result: TestResult) -> str | None:
    if result.flaky:
        return "flaky"
    if result.verb is Verb.UNDERSIZED:
        return "undersized"
    return "only in a fresh container" if result.overruled is not None else None


def _failed_kind(result: TestResult) -> str | None:
    if result.flaky:
        return "flaky"
    return None if result.outcome is Outcome.FAILED else result.outcome.value


def memory_ratio(attempt: Attempt) -> float | None:
    """Return the peak memory as a share of the limit that was enforced; None: not measured, or no limit."""
    peak, limit = attempt.evidence.usage.memory_peak_bytes, attempt.memory_limit_bytes
    return None if peak is None or limit <= 0 else peak / limit


def _cpu_seconds(attempt: Attempt) -> float | None:
    return attempt.evidence.usage.cpu_seconds


def _duration_seconds(attempt: Attempt) -> float | None:
    # A skipped test, and one that the engine did not start, has no duration.
    return attempt.evidence.timings.test_seconds or None


FIGURES: tuple[tuple[str, Callable[[Attempt], float | None]], ...] = (
    ("memory", memory_ratio),
    ("cpu", _cpu_seconds),
    ("duration", _duration_seconds),
)
"""Names of figures and functions that return the figure of an attempt. The summary names the highest of each in
this order.
"""
