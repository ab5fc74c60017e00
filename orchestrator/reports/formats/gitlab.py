"""Metrics report of a run for GitLab, which shows in a merge request how the figures differ from the target
branch.

OpenMetrics text (https://prometheus.io/docs/specs/om/open_metrics_spec/), restricted to what GitLab's parser
(ee/lib/gitlab/ci/parsers/metrics/generic.rb) reads. The parser cuts a line at any `#` and splits the rest like a
shell, so that one quote in a test's name would make the file invalid. Label values are therefore percent-encoded.
"""

from __future__ import annotations

from math import floor, log10
from operator import itemgetter
from typing import TYPE_CHECKING
from urllib.parse import quote

from orchestrator.files import write_atomically
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from orchestrator.model.results import TestResult
    from orchestrator.model.usage import Usage
    from orchestrator.reports.run_summary import RunSummary

_SAFE = "/:.,=+@[]()-_"
_NAME_BYTES = 900
_STEP_BYTES = 1_000_000
_STEP_SECONDS = 0.1
_DIGITS = 2


class Metrics:
    """Figures of a run's tests, kept until its end because the file is sorted by test."""

    def __init__(self) -> None:
        self._figures: list[tuple[str, Sequence[float | None], str]] = []
        """Key, figures in the order of `_FIGURES` and kind of memory bound of each test."""

    def add(self, results: Iterable[TestResult]) -> None:
        """Add the figures of tests that have ended."""
        for result in results:
            evidence = result.final.evidence
            usage, seconds = evidence.usage, evidence.timings.test_seconds
            figures = (usage.memory_peak_bytes, usage.cpu_seconds, seconds)
            self._figures.append((result.final.assignment.key, figures, bound_of(usage)))

    def write(self, summary: RunSummary, path: Path) -> None:
        """Write the file atomically. Raises OSError."""
        write_atomically(path, self.text(summary).encode("ascii"))

    def text(self, summary: RunSummary) -> str:
        """Return the whole file, in ASCII. A figure that was not measured has no line; a memory figure that is
        only a bound has the label `bound`.
        """
        return "\n".join([*_counts(summary), *self._of_tests(), "# EOF"]) + "\n"

    def _of_tests(self) -> Iterator[str]:
        tests = sorted(self._figures, key=itemgetter(0))
        for position, (name, what, step) in enumerate(_FIGURES):
            yield from _family(name, what, name.rpartition("_")[2])
            taken: set[str] = set()
            for key, figures, bound in tests:
                value, label = figures[position], label_value(key)
                if value is None or label in taken:  # OpenMetrics forbids a series twice
                    continue
                taken.add(label)
                mark = f'bound="{bound}",' if bound and position == 0 else ""
                yield f'{name}{{{mark}test="{label}"}} {_number(rounded(value, step))}'


def bound_of(usage: Usage) -> str:
    """Return `upper` or `lower` if the memory figure is only a bound of the peak, else an empty string."""
    return "upper" if usage.memory_peak_is_upper_bound else "lower" if usage.memory_peak_is_lower_bound else ""


def rounded(value: float, step: float) -> float:
    """Return `value` rounded to two digits, but not finer than to `step`, so that two runs of the same test nearly
    always have the same value. Otherwise a merge request would list every test as changed.
    """
    if value <= 0:
        return 0.0
    scale = max(step, 10.0 ** (floor(log10(value)) - _DIGITS + 1))
    return round(value / scale) * scale


def _counts(summary: RunSummary) -> Iterator[str]:
    counts = summary.counts
    yield from _family("orch_tests", "Tests by outcome.", None)
    for outcome in Outcome:
        yield f'orch_tests{{outcome="{outcome.value}"}} {counts[outcome.value]}'
    yield from _family("orch_flaky_tests", "Tests that failed and then passed.", None)
    yield f"orch_flaky_tests {counts['flaky']}"
    yield from _family("orch_violations", "Violations by kind.", None)
    kinds = summary.totals.violations
    yield from (f'orch_violations{{kind="{kind}"}} {kinds[kind]}' for kind in sorted(kinds))
    yield from _family("orch_not_run_tests", "Planned tests that were not run.", None)
    yield f"orch_not_run_tests {len(summary.not_run)}"


def _family(name: str, what: str, unit: str | None) -> Iterator[str]:
    yield f"# TYPE {name} gauge"
    if unit is not None:
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {what}"


def label_value(text: str) -> str:
    """Return `text` percent-encoded (RFC 3986), except for characters without a meaning in OpenMetrics and in
    shells. Of a long text only the end is returned, where the test's own name is.
    """
    raw = text.encode("utf-8", "surrogatepass")
    return quote(raw if len(raw) <= _NAME_BYTES else raw[-_NAME_BYTES:], safe=_SAFE)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


_FIGURES = (
    (
        "orch_test_memory_peak_bytes",
        "Peak memory; the label bound marks a figure that is only an upper or lower bound.",
        _STEP_BYTES,
    ),
    ("orch_test_cpu_seconds", "CPU time.", _STEP_SECONDS),
    ("orch_test_duration_seconds", "Duration.", _STEP_SECONDS),
)
