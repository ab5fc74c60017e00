"""A run's figures for GitLab's metrics report, which shows in a merge request what differs from the target branch.

OpenMetrics text (https://prometheus.io/docs/specs/om/open_metrics_spec/) within what GitLab's parser
(ee/lib/gitlab/ci/parsers/metrics/generic.rb) can read: it cuts a line at any `#` and splits the rest as a shell
would, so one quote in a test's name would lose the whole file. Label values are percent-encoded.
"""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING
from urllib.parse import quote

from orchestrator.model import Outcome
from orchestrator.reports.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.model import RunSummary, TestResult

_SAFE = "/:.,=+@[]()-_"
_NAME_BYTES = 900
_STEP_BYTES = 1_000_000
_STEP_SECONDS = 0.1
_DIGITS = 2


def write_metrics(summary: RunSummary, path: Path) -> None:
    """Write the file atomically. Raises OSError."""
    write_atomically(path, metrics_text(summary).encode("ascii"))


def metrics_text(summary: RunSummary) -> str:
    """The whole file, ASCII. A figure that was not measured has no line."""
    return "\n".join([*_counts(summary), *_of_tests(summary), "# EOF"]) + "\n"


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
    kinds: dict[str, int] = {}
    for result in summary.results:
        for violation in result.violations:
            kinds[violation.kind.value] = kinds.get(violation.kind.value, 0) + 1
    yield from (f'orch_violations{{kind="{kind}"}} {kinds[kind]}' for kind in sorted(kinds))
    yield from _family("orch_not_run_tests", "Planned tests that were not run.", None)
    yield f"orch_not_run_tests {len(summary.not_run)}"


def _of_tests(summary: RunSummary) -> Iterator[str]:
    results = sorted(summary.results, key=lambda r: r.final.assignment.key)
    for name, what, step, figure_of in _FIGURES:
        yield from _family(name, what, name.rpartition("_")[2])
        taken: set[str] = set()
        for result in results:
            value, label = figure_of(result), label_value(result.final.assignment.key)
            if value is None or label in taken:  # OpenMetrics forbids a series twice
                continue
            taken.add(label)
            yield f'{name}{{test="{label}"}} {_number(rounded(value, step))}'


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


def _memory(result: TestResult) -> float | None:
    return result.final.evidence.usage.memory_peak_bytes


def _cpu(result: TestResult) -> float | None:
    return result.final.evidence.usage.cpu_seconds


def _duration(result: TestResult) -> float | None:
    return result.final.evidence.timings.test_seconds


Figures = tuple[str, str, float, "Callable[[TestResult], float | None]"]
_FIGURES: tuple[Figures, ...] = (
    ("orch_test_memory_peak_bytes", "Peak memory.", _STEP_BYTES, _memory),
    ("orch_test_cpu_seconds", "CPU time.", _STEP_SECONDS, _cpu),
    ("orch_test_duration_seconds", "Duration.", _STEP_SECONDS, _duration),
)
