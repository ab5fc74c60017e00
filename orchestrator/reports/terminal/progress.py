"""Output while tests run: a live bar on a terminal, a plain line for each test elsewhere, or nothing.

BrokenPipeError for a closed pipe passes to the caller. Methods may be called from any thread.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

from orchestrator.reports.run_summary import is_failure
from orchestrator.reports.terminal.output_tail import output_lines
from orchestrator.reports.terminal.result_lines import (
    PROFILE_COLUMNS,
    RunningTest,
    header_line,
    key_of,
    running_lines,
)
from orchestrator.reports.terminal.summary import OutputWhen, result_lines, summary_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import TextIO

    from orchestrator.model.results import TestResult
    from orchestrator.model.runs import Run
    from orchestrator.model.tests import Assignment
    from orchestrator.model.usage import Sample
    from orchestrator.reports.run_summary import RunSummary
    from orchestrator.reports.terminal.live_bar import Bar


class ProgressMode(StrEnum):
    """Values of --show-progress."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    NONE = "none"


class Printer(Protocol):
    """Interface for the destination of lines: a plain stream, or a terminal with colours."""

    def write(self, lines: Sequence[str]) -> None:
        """Print the lines together, so that no line of another thread is between them."""
        ...

    @property
    def columns(self) -> int | None:
        """Width of the terminal; None for streams whose lines are not wrapped."""
        ...


class StreamPrinter:
    """Printer of plain lines without escape codes, flushed at once so that CI logs are up to date."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def columns(self) -> int | None:
        """None, because pipes and files have no width."""
        return None

    def write(self, lines: Sequence[str]) -> None:
        """Write all lines at once. Characters that the stream cannot encode are escaped."""
        text = "".join(f"{line}\n" for line in lines)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()


class Progress:
    """Progress as plain lines: the header, a line for each test, and the summary. Base class of the others."""

    def __init__(
        self,
        printer: Printer,
        *,
        snapshot: Callable[[], Mapping[str, Sample]] = dict,
        success_output: str = OutputWhen.NEVER,
        failure_output: str = OutputWhen.FINAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._printer = printer
        self._snapshot = snapshot
        self._success_output = OutputWhen(success_output)
        self._failure_output = OutputWhen(failure_output)
        self._clock = clock
        # Reentrant, because SIGUSR1's handler calls `running_lines` anywhere in the main thread. Not held while
        # printing, because the bar's thread takes this lock while it holds that of the console.
        self._lock = threading.RLock()
        self._running: dict[str, RunningTest] = {}
        self._profile_columns = PROFILE_COLUMNS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the terminal. May be called twice."""

    def start(self, run: Run, plan: Sequence[Assignment]) -> None:
        """Print the header."""
        self._profile_columns = max((len(a.profile.name) for a in plan), default=PROFILE_COLUMNS)
        self._printer.write([header_line(run, len(plan), columns=self._printer.columns)])

    def started(self, assignment: Assignment) -> None:
        """Record that a test was started, for the first time or again."""
        with self._lock:
            test = RunningTest(assignment=assignment, started_seconds=self._clock())
            self._running[key_of(assignment)] = test

    def finished(self, *results: TestResult) -> None:
        """Print the lines of final results."""
        with self._lock:
            for result in results:
                self._running.pop(key_of(result.final.assignment), None)
        self._print(results)

    def _print(self, results: Sequence[TestResult]) -> None:
        lines: list[str] = []
        columns, profile_columns = self._printer.columns, self._profile_columns
        for result in results:
            lines += result_lines(result, columns=columns, profile_columns=profile_columns)
            when = self._failure_output if is_failure(result) else self._success_output
            if when is OutputWhen.IMMEDIATE:
                lines += output_lines(result.final)
        if lines:
            self._printer.write(lines)

    def notice(self, text: str) -> None:
        """Print a line between the lines of tests. The text must be safe to print."""
        self._printer.write([text])

    def running_lines(self, *, columns: int | None = None, limit: int | None = None) -> list[str]:
        """Return the lines of the running tests, also for SIGUSR1."""
        with self._lock:
            running = list(self._running.values())
        return running_lines(
            running,
            self._snapshot(),
            now_seconds=self._clock(),
            columns=columns,
            limit=limit,
            profile_columns=self._profile_columns,
        )

    def summary(self, summary: RunSummary) -> None:
        """Print the summary at the end of the run."""
        self.close()
        self._printer.write(
            summary_lines(
                summary,
                columns=self._printer.columns,
                profile_columns=self._profile_columns,
                success_output=self._success_output,
                failure_output=self._failure_output,
            )
        )


class SilentProgress(Progress):
    """Progress that prints nothing but has the running tests for SIGUSR1."""

    def start(self, run: Run, plan: Sequence[Assignment]) -> None:
        """Print nothing."""

    def _print(self, results: Sequence[TestResult]) -> None:
        """Print nothing."""

    def notice(self, text: str) -> None:
        """Print nothing."""

    def summary(self, summary: RunSummary) -> None:
        """Print nothing."""


class QuietProgress(SilentProgress):
    """Progress for --show-progress none: only the summary with the failures."""

    summary = Progress.summary


class BarProgress(Progress):
    """Lines as in `Progress`, with the running tests and a live bar below them."""

    def __init__(
        self,
        printer: Printer,
        bar: Bar,
        *,
        snapshot: Callable[[], Mapping[str, Sample]] = dict,
        success_output: str = OutputWhen.NEVER,
        failure_output: str = OutputWhen.FINAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            printer,
            snapshot=snapshot,
            success_output=success_output,
            failure_output=failure_output,
            clock=clock,
        )
        self._bar = bar

    def start(self, run: Run, plan: Sequence[Assignment]) -> None:
        """Print the header and show the bar."""
        super().start(run, plan)
        self._bar.start(plan, self.running_lines)

    def finished(self, *results: TestResult) -> None:
        """Print the lines of final results above the bar."""
        for result in results:
            self._bar.advance(result)
        super().finished(*results)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


def open_progress(
    mode: str,
    stream: TextIO,
    *,
    snapshot: Callable[[], Mapping[str, Sample]] = dict,
    success_output: str = OutputWhen.NEVER,
    failure_output: str = OutputWhen.FINAL,
    env: Mapping[str, str] = os.environ,
) -> Progress:
    """Return the progress for `--show-progress mode`. Escape codes are only written to terminals, whatever the
    mode.
    """
    wanted = ProgressMode(mode)
    terminal = stream.isatty() and env.get("TERM") != "dumb"
    if not terminal:
        plain = QuietProgress if wanted is ProgressMode.NONE else Progress
        return plain(
            StreamPrinter(stream),
            snapshot=snapshot,
            success_output=success_output,
            failure_output=failure_output,
        )
    # Importing rich takes 50 ms, so it is only imported for a terminal.
    from orchestrator.reports.terminal.live_bar import Bar, ConsolePrinter

    printer = ConsolePrinter(stream, colour=not env.get("NO_COLOR"))
    if wanted is ProgressMode.BAR or (wanted is ProgressMode.AUTO and not env.get("CI")):
        bar = Bar(printer.console, redirect_stderr=sys.stderr.isatty())
        return BarProgress(
            printer, bar, snapshot=snapshot, success_output=success_output, failure_output=failure_output
        )
    plain = QuietProgress if wanted is ProgressMode.NONE else Progress
    return plain(printer, snapshot=snapshot, success_output=success_output, failure_output=failure_output)
