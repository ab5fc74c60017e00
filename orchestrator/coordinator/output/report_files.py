"""Write the report files of a run: collect results while tests run, and write the files at the end."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from orchestrator.reports.formats import run_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from orchestrator.coordinator.options import RunOptions
    from orchestrator.coordinator.run_folder import RunFolder
    from orchestrator.model.results import TestResult
    from orchestrator.reports.formats.junit import JUnitReport
    from orchestrator.reports.run_summary import RunSummary
    from orchestrator.reports.tables.violations import RunViolations


class Report(Protocol):
    """A report that receives the final results of all tests."""

    def add(self, results: Sequence[TestResult]) -> None:
        """Add the final results of tests."""
        ...


class FileReport(Report, Protocol):
    """A report that is written to a file when the run has ended."""

    def write(self, summary: RunSummary, path: Path) -> None:
        """Write the report to `path`. Raises OSError."""
        ...


class ReportFiles:
    """The files run.json and junit.xml of the run's folder, and the files that options name.

    What a report needs of each test is kept on the disk of the folder until the run has ended.
    """

    def __init__(self, options: RunOptions, folder: RunFolder) -> None:
        self._options = options
        self._folder = folder
        self._violations: RunViolations | None = None
        self._junit: JUnitReport | None = None
        self._asked: list[tuple[Path, FileReport]] = []
        self._reports: list[Report] = []

    def add(self, results: Sequence[TestResult]) -> None:
        """Add the final results of tests to all reports. Raises OSError."""
        self._begin()
        for report in self._reports:
            report.add(results)

    def write(self, summary: RunSummary, events: Path) -> list[str]:
        """Write all files. Return a sentence for each that could not be written. `events` is events.jsonl."""
        self._begin()
        return [text for text in (_written(*one) for one in self._files(summary, events)) if text]

    def _begin(self) -> None:
        """Create the reports when the first test has ended, so that their imports do not delay the start."""
        if self._reports:
            return
        from orchestrator.reports.formats.junit import JUnitReport

        options, place = self._options, self._folder.path
        junit = JUnitReport(place)
        self._junit = junit
        if options.junit is not None:
            self._asked.append((options.junit, junit))
        self._reports = [junit]
        if options.ctrf is not None:
            from orchestrator.reports.formats.ctrf import CtrfReport

            self._ask(options.ctrf, CtrfReport(place))
        if options.gitlab_metrics is not None:
            from orchestrator.reports.formats.gitlab import Metrics

            self._ask(options.gitlab_metrics, Metrics())
        if options.sarif is not None:
            from orchestrator.reports.tables.violations import RunViolations

            self._violations = RunViolations()
            self._reports.append(self._violations)

    def _ask(self, path: Path, report: FileReport) -> None:
        self._asked.append((path, report))
        self._reports.append(report)

    def _files(self, summary: RunSummary, events: Path) -> Iterator[tuple[Path, Callable[[Path], None]]]:
        place = self._folder.writable_path()
        yield place / "run.json", partial(run_json.write_run_document, summary, events)
        if self._junit is not None:
            yield place / "junit.xml", partial(self._junit.write, summary)
        for path, report in self._asked:
            yield path, partial(report.write, summary)
        if self._options.sarif is not None and self._violations is not None:
            from orchestrator.reports.formats.sarif import write_sarif

            yield self._options.sarif, partial(write_sarif, self._violations.groups(), project=summary.run.project)


def _written(path: Path, write: Callable[[Path], None]) -> str:
    """Write one file. Return an empty text, or why it cannot be written, so that the other files are written."""
    try:
        write(path)
    except OSError as error:
        return f"{path} could not be written: {error.strerror}"
    return ""
