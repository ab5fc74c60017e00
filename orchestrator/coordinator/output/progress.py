"""Pass the progress of a run to the terminal display, events.jsonl, `--format jsonl` and the reports."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from orchestrator.coordinator.run_folder import EventsFile, RunFolder
from orchestrator.model.results import TestResult
from orchestrator.reports.formats import run_json
from orchestrator.reports.terminal.progress import Progress, open_progress
from orchestrator.scheduling.events import Event, Finished, Started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestrator.config.settings import Config
    from orchestrator.coordinator.options import RunOptions
    from orchestrator.coordinator.output.report_files import Report
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model.runs import Run
    from orchestrator.model.tests import Assignment
    from orchestrator.model.usage import Sample
    from orchestrator.reports.run_summary import RunSummary


class RunProgress:
    """Passes the progress of a run to the display, events.jsonl, `--format jsonl` and the reports."""

    def __init__(
        self,
        options: RunOptions,
        config: Config,
        folder: RunFolder,
        sampler: Sampler,
        reports: Sequence[Report] = (),
    ) -> None:
        self._reports = reports
        self._format = options.output_format
        self._sampler = sampler
        self._lock = threading.Lock()
        self._folder = folder
        self.events = EventsFile(folder)
        # with JSON, a program reads stdout, and the display goes to stderr
        stream = sys.stdout if self._format == "table" else sys.stderr
        self._display: Progress = open_progress(
            options.show_progress if self._format == "table" or options.show_progress != "auto" else "none",
            stream,
            snapshot=self._snapshot,
            success_output=config.run.success_output,
            failure_output=config.run.failure_output,
        )

    def _snapshot(self) -> Mapping[str, Sample]:
        return self._sampler.latest()

    def running_lines(self) -> Iterable[str]:
        """Return a line for each test that is running."""
        return self._display.running_lines()

    def start(self, run: Run, plan: Sequence[Assignment]) -> None:
        """Write the first event and start the display."""
        self._emit([run_json.run_started_line(run, plan)])
        self._display.start(run, plan)

    def started(self, assignment: Assignment) -> None:
        """Show at once that a test has started."""
        self._display.started(assignment)

    def log_events(self, items: Iterable[Event | TestResult]) -> None:
        """Write a line to the events for each item, in their order."""
        self._emit([line for item in items for line in _lines_of(item)])

    def finished(self, results: Sequence[TestResult]) -> None:
        """Pass final results to the reports and the display."""
        for report in self._reports:
            report.add(results)
        self._display.finished(*results)

    def close(self) -> None:
        """End the display and restore the terminal."""
        self._display.close()

    def summary(self, summary: RunSummary) -> None:
        """Write the last event and print the summary in the format that was requested."""
        self._emit([run_json.run_finished_line(summary)])
        self.events.close()
        if self._format == "json":
            for piece in run_json.run_pieces(summary, self.events.path):
                sys.stdout.write(piece.decode("ascii"))
        elif self._format == "table":
            self._display.summary(summary)

    def _emit(self, lines: Sequence[str]) -> None:
        text = "".join([f"{line}\n" for line in lines])
        with self._lock:
            self.events.add(text)
            if self._format == "jsonl":
                sys.stdout.write(text)
                sys.stdout.flush()


def _lines_of(item: Event | TestResult) -> Iterator[str]:
    match item:
        case Started():
            yield run_json.test_started_line(item.assignment)
        case Finished():
            yield run_json.attempt_finished_line(item.attempt, will_retry=item.will_retry)
        case TestResult():
            yield run_json.test_finished_line(item)
