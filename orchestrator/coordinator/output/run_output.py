"""The output of a run: reports on stdout, notices on stderr, files in the run's folder."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note
from orchestrator.coordinator.output.progress import RunProgress
from orchestrator.coordinator.output.report_files import ReportFiles
from orchestrator.errors import UsageError
from orchestrator.model.runs import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.config.settings import Config
    from orchestrator.coordinator.options import RunOptions
    from orchestrator.coordinator.output.github import GitHub
    from orchestrator.coordinator.output.report_files import Report
    from orchestrator.coordinator.run_folder import RunFolder
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model.tests import Assignment
    from orchestrator.reports.run_summary import RunSummary
    from orchestrator.scheduling.admission import Budget


class RunOutput:
    """Everything that a run prints and writes, in the format that the options name."""

    def __init__(self, options: RunOptions, config: Config) -> None:
        self._options = options
        self._config = config
        self._folder: RunFolder | None = None
        self._files: ReportFiles | None = None
        self._progress: RunProgress | None = None
        self._in_step = False
        self._github = github(options)

    def notice(self, text: str) -> None:
        """Print one line to stderr."""
        note(text)

    def notices(self, texts: Iterable[str]) -> None:
        """Print several lines to stderr."""
        for text in texts:
            self.notice(text)

    def building(self, line: str) -> None:
        """Print a line of an image's build if it is a step; the output of steps is left out."""
        is_step = line.startswith("Step ")
        self._in_step = is_step or (self._in_step and not line.startswith("Successfully built"))
        if is_step or not self._in_step:
            print(f"  {line}", file=sys.stderr)

    def plan(self, plan: Sequence[Assignment], budget: Budget) -> int:
        """Print the plan and return the exit code."""
        from orchestrator.coordinator.output.plan_output import print_plan

        return print_plan(plan, budget, "json" if self._options.output_format != "table" else "table")

    def progress(self, folder: RunFolder, sampler: Sampler) -> RunProgress:
        """Create the progress display and the reports of the run."""
        self._folder = folder
        self._files = ReportFiles(self._options, folder)
        reports: list[Report] = [self._files, *([] if self._github is None else [self._github])]
        self._progress = RunProgress(self._options, self._config, folder, sampler, reports)
        if self._github is not None:
            self._github.suppress_commands()
        return self._progress

    def summary(self, summary: RunSummary) -> None:
        """Write the report files, then print the summary. Raises UsageError if a file cannot be written."""
        folder, files, progress = self._folder, self._files, self._progress
        if folder is None or files is None or progress is None:
            return
        failed = files.write(summary, progress.events.path)
        progress.summary(summary)
        if summary.status is RunStatus.FINISHED:  # a stopped run may lack the results of attempts that wrote files
            folder.write_size()
        if self._github is not None:
            self._github.publish(summary)
        if failed:
            raise UsageError(
                f"the tests have run, but {'; '.join(failed)}", remedy="name files in folders that are writable"
            )


def github(options: RunOptions) -> GitHub | None:
    """Return the writer for GitHub, or None if neither an option nor the environment asks for it."""
    asked = options.github if options.github is not None else os.environ.get("GITHUB_ACTIONS") == "true"
    if not asked and options.step_summary is None:
        return None
    from orchestrator.coordinator.output.github import GitHub

    stream = sys.stdout if options.output_format == "table" else sys.stderr
    return GitHub(wanted=asked, summary_file=options.step_summary, environ=os.environ, stream=stream)
