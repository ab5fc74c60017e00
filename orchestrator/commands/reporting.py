"""Where a run's words go: reports to stdout, notices to stderr, files to the run's folder."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from orchestrator.commands.folders import EventsFile
from orchestrator.commands.printing import note
from orchestrator.commands.reportfiles import ReportFiles
from orchestrator.errors import UsageError
from orchestrator.model import RunStatus, TestResult
from orchestrator.reports import jsonrun
from orchestrator.reports.progress import Progress, open_progress
from orchestrator.scheduling.policy import Finished, Started

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestrator.commands.ci import GitHub
    from orchestrator.commands.folders import RunFolder
    from orchestrator.commands.options import RunOptions
    from orchestrator.commands.reportfiles import Report
    from orchestrator.config.settings import Config
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model import Assignment, Run, Sample
    from orchestrator.reports.digest import RunSummary
    from orchestrator.scheduling.admission import Budget
    from orchestrator.scheduling.policy import Event


class Output:
    """All that a run prints and writes, in the format that was asked for."""

    def __init__(self, options: RunOptions, config: Config) -> None:
        self._options = options
        self._config = config
        self._folder: RunFolder | None = None
        self._files: ReportFiles | None = None
        self._progress: RunProgress | None = None
        self._in_step = False
        self._github = github(options)

    def notice(self, text: str) -> None:
        """One line to stderr."""
        note(text)

    def notices(self, texts: Iterable[str]) -> None:
        """Several lines to stderr."""
        for text in texts:
            self.notice(text)

    def building(self, line: str) -> None:
        """A line of an image's build: its steps are shown, what they print is not (a failed one's tail is)."""
        is_step = line.startswith("Step ")
        self._in_step = is_step or (self._in_step and not line.startswith("Successfully built"))
        if is_step or not self._in_step:
            print(f"  {line}", file=sys.stderr)

    def plan(self, plan: Sequence[Assignment], budget: Budget) -> int:
        """Print what would run."""
        from orchestrator.commands.plan import print_plan

        return print_plan(plan, budget, "json" if self._options.output_format != "table" else "table")

    def progress(self, folder: RunFolder, sampler: Sampler) -> RunProgress:
        """What tells of the tests while they run."""
        self._folder = folder
        self._files = ReportFiles(self._options, folder)
        reports: list[Report] = [self._files, *([] if self._github is None else [self._github])]
        self._progress = RunProgress(self._options, self._config, folder, sampler, reports)
        if self._github is not None:
            self._github.shield()
        return self._progress

    def summary(self, summary: RunSummary) -> None:
        """The end of the run: the files, then the report."""
        folder, files, progress = self._folder, self._files, self._progress
        if folder is None or files is None or progress is None:
            return
        failed = files.write(summary, progress.events.path)
        progress.summary(summary)
        if summary.status is RunStatus.FINISHED:  # a stop may lose the results of attempts that left something
            folder.end()
        if self._github is not None:
            self._github.tell(summary)
        if failed:
            raise UsageError(
                f"the tests have run, but {'; '.join(failed)}", remedy="name files in folders that can be written"
            )


def github(options: RunOptions) -> GitHub | None:
    """Who tells GitHub; None, and nothing is imported, where neither an option nor the environment asks."""
    asked = options.github if options.github is not None else os.environ.get("GITHUB_ACTIONS") == "true"
    if not asked and options.step_summary is None:
        return None
    from orchestrator.commands.ci import GitHub

    stream = sys.stdout if options.output_format == "table" else sys.stderr
    return GitHub(wanted=asked, summary_file=options.step_summary, environ=os.environ, stream=stream)


class RunProgress:
    """Joins the display, the events' file, --format jsonl and the reports that are made while tests run."""

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
        # a machine reads stdout when it was asked for JSON; people still see the tests on stderr
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
        """What is running now."""
        return self._display.running_lines()

    def start(self, run: Run, plan: Sequence[Assignment]) -> None:
        """The run begins."""
        self._emit([jsonrun.run_started_line(run, plan)])
        self._display.start(run, plan)

    def started(self, assignment: Assignment) -> None:
        """What runs now is known at once."""
        self._display.started(assignment)

    def told(self, items: Iterable[Event | TestResult]) -> None:
        """What has happened, in its order: a line of events each."""
        self._emit([line for item in items for line in _lines_of(item)])

    def finished(self, results: Sequence[TestResult]) -> None:
        """Tests have their final results."""
        for report in self._reports:
            report.add(results)
        self._display.finished(*results)

    def close(self) -> None:
        """Give the terminal back."""
        self._display.close()

    def summary(self, summary: RunSummary) -> None:
        """The run has ended."""
        self._emit([jsonrun.run_finished_line(summary)])
        self.events.close()
        if self._format == "json":
            for piece in jsonrun.run_pieces(summary, self.events.path):
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
            yield jsonrun.test_started_line(item.assignment)
        case Finished():
            yield jsonrun.attempt_finished_line(item.attempt, will_retry=item.will_retry)
        case TestResult():
            yield jsonrun.test_finished_line(item)
