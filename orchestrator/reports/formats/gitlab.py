"""A run's figures for GitLab's metrics report, which shows in a merge request what differs from the target branch.

OpenMetrics text (https://prometheus.io/docs/specs/om/open_metrics_spec/) within what GitLab's parser
(ee/lib/gitlab/ci/parsers/metrics/generic.rb) can read: it cuts a line at any `#` and splits the rest as a shell
would, so one quote in a test's name would lose the whole file. Label values are percent-encoded.
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
    from orchestrator.reports.run_summary import RunSummary

_SAFE = "/:.,=+@[]()-_"
_NAME_BYTES = 900
_STEP_BYTES = 1_000_000
_STEP_SECONDS = 0.1
_DIGITS = 2


class Metrics:
    """Of one run. It is sorted by test, so that each one's figures are kept until the end."""

    def __init__(self) -> None:
        self._figures: list[tuple[str, Sequence[float | None]]] = []

    def add(self, results: Iterable[TestResult]) -> None:
        """Tests have their final results."""
        for result in results:
            evidence = result.final.evidence
            usage, seconds = evidence.usage, evidence.timings.test_seconds
            figures = (usage.memory_peak_bytes, usage.cpu_seconds, seconds)
            self._figures.append((result.final.assignment.key, figures))

    def write(self, summary: RunSummary, path: Path) -> None:
        """Write the file atomically. Raises OSError."""
        write_atomically(path, self.text(summary).encode("ascii"))

    def text(self, summary: RunSummary) -> str:
        """The whole file, ASCII. A figure that was not measured has no line."""
        return "\n".join([*_counts(summary), *self._of_tests(), "# EOF"]) + "\n"

    def _of_tests(self) -> Iterator[str]:
        tests = sorted(self._figures, key=itemgetter(0))
        for position, (name, what, step) in enumerate(_FIGURES):
            yield from _family(name, what, name.rpartition("_")[2])
            taken: set[str] = set()
            for key, figures in tests:
                value, label = figures[position], label_value(key)
                if value is None or label in taken:  # OpenMetrics forbids a series twice
                    continue
                taken.add(label)
                yield f'{name}{{test="{label}"}} {_number(rounded(value, step))}'


def rounded(value: float, step: float) -> float:
    """`value` to two digits, and no finer than `step`: what two runs of the same test would nearly always share.
    Else a merge request would list every test as changed.
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
    yield from _family("orch_violations", "Broken budgets by kind.", None)
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
    """Percent-encoded (RFC 3986) but for what neither OpenMetrics nor a shell gives a meaning; the end of a long
    one, where a test's own name is.
    """
    raw = text.encode("utf-8", "surrogatepass")
    return quote(raw if len(raw) <= _NAME_BYTES else raw[-_NAME_BYTES:], safe=_SAFE)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


_FIGURES = (
    ("orch_test_memory_peak_bytes", "Peak memory.", _STEP_BYTES),
    ("orch_test_cpu_seconds", "CPU time.", _STEP_SECONDS),
    ("orch_test_duration_seconds", "Duration.", _STEP_SECONDS),
)
