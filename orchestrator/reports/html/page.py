"""The nightly report as one HTML file that loads nothing and runs only its own scripts.

Its content security policy lists scripts and styles by their SHA-256, so that the browser runs nothing else that a
name or an output could contain. Jinja escapes all text, and `orchestrator.text` control and direction characters.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup

from orchestrator.model.nightly import HistoryAnalysis
from orchestrator.model.resources import Resource
from orchestrator.reports.html.details import DetailInput, packed_details
from orchestrator.reports.html.distribution import histogram, profile_uses
from orchestrator.reports.html.environment import environment
from orchestrator.reports.html.ranking import growths, rankings
from orchestrator.reports.html.timeline import timeline
from orchestrator.reports.html.view import (
    TestRow,
    all_rows,
    changed_violations,
    failing_now,
    flaky_tests,
    headline,
    profile_advice,
    tiles,
)
from orchestrator.reports.tables.rightsizing import suggestions_text
from orchestrator.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from orchestrator.model.nightly import Nightly, NightlyTest, OutputTails
    from orchestrator.model.tests import TestId

SIZE_LIMIT = 498_000
"""Maximum size of a report in bytes. Details are left out to stay below it, but not table rows."""

_LEAST_DETAILS = 20_000
_NO_ANALYSIS = HistoryAnalysis()
_PLACEHOLDER = "@@details@@"
"""Marker that is replaced by the details. Text of tests cannot contain it, because it is escaped or packed."""
_VENDORED = ("uPlot",)


@cache
def _asset(name: str) -> str:
    return (files("orchestrator.reports.html") / name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Inline:
    """A script or style of the page."""

    text: str

    @property
    def markup(self) -> Markup:
        """The text for the template. It is not escaped, because it comes from orch's own files."""
        return Markup(self.text)  # noqa: S704 - shipped files, checked by hash, never a test's words

    @property
    def source(self) -> str:
        """The hash of the text as the policy lists it: 'sha256-…'."""
        return f"'sha256-{base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode()}'"


def _scripts() -> tuple[Inline, ...]:
    vendored = [
        Inline(f"/*!\n{_asset(f'vendor/{name}.LICENSE').strip()}\n*/\n{_asset(f'vendor/{name}.js').strip()}\n")
        for name in _VENDORED
    ]
    return (*vendored, Inline(_asset("templates/report.js")))


def _styles() -> tuple[Inline, ...]:
    return (Inline(_asset("vendor/uPlot.css")), Inline(_asset("templates/report.css")))


def nightly_page(
    report: Nightly,
    tails: Mapping[str, OutputTails] | None = None,
    *,
    analysis: HistoryAnalysis = _NO_ANALYSIS,
    limit: int = SIZE_LIMIT,
) -> str:
    """Return the whole file. `tails`: output of attempts by their ids. Times are UTC."""
    flaky = analysis.flaky_ids
    tests = tuple(sorted(report.tests, key=lambda test: _worst_first(test, flaky)))
    drawn = None if report.main is None else timeline(report.main)
    frame = _render(report, tests, drawn, analysis)
    room = max(limit - len(frame.encode()), _LEAST_DETAILS)
    source = DetailInput(report=report, tests=tests, drawn=drawn, tails=tails or {}, flaky=flaky)
    details = packed_details(source, limit=room)
    before, _, after = frame.rpartition(_PLACEHOLDER)
    return f"{before}{details}{after}"


def _worst_first(test: NightlyTest, flaky: AbstractSet[TestId]) -> tuple[bool, bool, bool, str]:
    return (not test.failing, test.test_id not in flaky, not test.kinds, str(test.test_id))


def _render(report: Nightly, tests: tuple[NightlyTest, ...], drawn: object, analysis: HistoryAnalysis) -> str:
    number = {test.test_id: at for at, test in enumerate(tests)}
    scripts, styles = _scripts(), _styles()
    policy = (
        f"default-src 'none'; script-src {' '.join(s.source for s in scripts)}; "
        f"style-src {' '.join(s.source for s in styles)}; base-uri 'none'; form-action 'none'"
    )
    main = report.main.run if report.main else (report.runs[0] if report.runs else None)
    rows: tuple[TestRow, ...] = all_rows(tests)
    flaky = flaky_tests(tests, analysis)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            policy=policy,
            scripts=scripts,
            styles=styles,
            report=report,
            main=main,
            project=one_line(main.project, 100) if main else "no runs",
            number=number,
            headline=headline(report),
            tiles=tiles(report, len(flaky)),
            failing=failing_now(tests),
            fixed=[t for t in tests if t.fixed],
            fresh=[t for t in tests if not t.before and not t.failing] if any(t.before for t in tests) else [],
            violations=changed_violations(tests),
            growths=growths(tests),
            rankings=rankings(tests),
            histograms=[
                h
                for h in (
                    histogram(tests, Resource.MEMORY_RATIO, "Peak memory, share of the limit"),
                    histogram(tests, Resource.TIME_RATIO, "Duration, share of the timeout"),
                )
                if h
            ],
            profiles=profile_uses(tests),
            timeline=drawn,
            flaky=flaky,
            advice=profile_advice(tests, analysis),
            advised=_advised(analysis),
            rows=rows,
            placeholder=_PLACEHOLDER,
        )
    )


def _advised(analysis: HistoryAnalysis) -> str:
    """Return the totals of the profile advice; empty if there is none."""
    if not analysis.advice:
        return ""
    return suggestions_text(analysis.advice, minimum_runs=analysis.minimum_runs)
