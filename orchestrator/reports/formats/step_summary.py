"""Markdown page of a run for GitHub's step summary, within GitHub's size limit.

Names and output of tests are untrusted: names are escaped, output is in `pre` with its markup escaped.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from orchestrator.reports.run_summary import MAX_ROWS, memory_ratio
from orchestrator.reports.tables.columns import (
    CPU,
    DURATION,
    MEMORY,
    PROFILE,
    RATIO,
    TEST,
    as_ratio,
    in_own_memory,
    in_seconds,
)
from orchestrator.reports.tables.table import Column, Table, escaped, table_text
from orchestrator.reports.tables.violations import violations_table
from orchestrator.reports.terminal.output_tail import output_lines
from orchestrator.reports.terminal.result_lines import remark_of
from orchestrator.reports.terminal.summary import count_line, left_out_lines
from orchestrator.text import bounded, one_line, plural, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestrator.model.results import TestResult
    from orchestrator.model.violation_groups import ViolationGroup
    from orchestrator.reports.run_summary import RunSummary

LIMIT_BYTES = 1024 * 1000
"""GitHub drops a step's whole summary when it is larger than 1,024 KB."""
MAX_OUTPUTS = 20
"""Maximum number of failures that are shown with their output; `ResultTotals` keeps the output of a few more."""
_OUTPUT_CHARACTERS = 10_000
"""Maximum length of the output of one failure: the output of twenty fills a fifth of the page."""
_NAME_CHARACTERS = 300
_CLOSING = 200
"""Bytes reserved for the line about omitted sections, which needs at most half of them."""


def step_summary(summary: RunSummary, groups: Sequence[ViolationGroup], *, limit_bytes: int = LIMIT_BYTES) -> str:
    """Return the page, at most `limit_bytes` of UTF-8. Sections at the end that do not fit are omitted, and a line
    says so. `groups`: all violations of the run, most severe first.
    """
    return _within(list(_sections(summary, groups)), limit_bytes)


def _within(sections: Sequence[str], limit_bytes: int) -> str:
    text, room = "", limit_bytes - _CLOSING
    for number, section in enumerate(sections):
        size = len(section.encode())
        if size > room:
            left = plural(len(sections) - number, "more section")
            closing = f"\n*+{left}: the page would exceed GitHub's limit; see run.json and junit.xml.*\n"
            return text + closing if limit_bytes >= _CLOSING else ""
        text, room = text + section, room - size
    return text


def _sections(summary: RunSummary, groups: Sequence[ViolationGroup]) -> Iterator[str]:
    totals = summary.totals
    word = "failed" if summary.exit_code else "passed"
    yield f"## orch: {escaped(summary.run.project)} {word}\n\n{escaped(count_line(summary))}\n"
    for text in left_out_lines(summary):
        yield f"\n{escaped(text)}\n"
    if totals.failures:
        yield _titled("Failures", _results_table(totals.failures), totals.failed_tests)
    if totals.flaky:
        # not `flaky_tests`: with the policy to fail flaky tests they are among the failures above
        yield _titled("Flaky", _results_table(totals.flaky), totals.passed_kinds["flaky"])
    if groups:
        yield _titled("Violations", violations_table(groups[:MAX_ROWS]), len(groups))
    if totals.tests:
        yield _titled("Most memory", _results_table(totals.most_memory.results))
    yield from (_output(result) for result in totals.failures[:MAX_OUTPUTS])


def _titled(title: str, table: Table, count: int = 0) -> str:
    """Return the section. `count`: number of rows before the table was cut to `MAX_ROWS`."""
    more = f"\n+{count - MAX_ROWS} more\n" if count > MAX_ROWS else ""
    return f"\n### {title}\n\n{table_text(table)}{more}"


def _results_table(results: Iterable[TestResult]) -> Table:
    columns = (Column(key="verb", title="verb"), TEST, PROFILE, DURATION, MEMORY, RATIO, CPU)
    return Table(
        name="results",
        columns=(*columns, Column(key="remark", title="remark", flexible=True)),
        rows=tuple(
            (
                result.verb.value,
                _name(result),
                result.final.assignment.profile.name,
                in_seconds(result.final.evidence.timings.test_seconds),
                in_own_memory(result.final.evidence.usage),
                as_ratio(memory_ratio(result.final)),
                in_seconds(result.final.evidence.usage.cpu_seconds),
                remark_of(result),
            )
            for result in results
        ),
        empty="none",
    )


def _name(result: TestResult) -> str:
    return one_line(result.final.assignment.key, _NAME_CHARACTERS)


def _output(result: TestResult) -> str:
    lines = output_lines(result.final)
    # GitHub makes no mentions and links inside `pre`, and only its closing tag ends it
    text = html.escape(bounded(visible("\n".join(lines)), _OUTPUT_CHARACTERS), quote=False)
    # outside of `pre`, a comment behind the sign prevents mentions and links
    title = html.escape(_name(result), quote=False).replace("@", "@<!-- -->").replace("#", "#<!-- -->")
    return f"\n<details><summary><code>{title}</code></summary>\n\n<pre>{text}\n</pre>\n\n</details>\n"
