"""The live bar and coloured lines of a terminal. No other module of the reports imports rich."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.model.results import Verb
from orchestrator.reports.run_summary import is_failure
from orchestrator.text import format_clock, shorten_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from orchestrator.model.results import TestResult
    from orchestrator.model.tests import Assignment

REFRESHES_PER_SECOND = 8
MAX_ROWS = 10
"""Maximum number of running tests above the bar; a small terminal shows fewer."""

_STYLES = {
    Verb.PASS: "green",
    Verb.SLOW: "yellow",
    Verb.FLAKY: "yellow",
    Verb.LEAK: "yellow",
    Verb.UNDERSIZED: "yellow",
    Verb.SKIP: "cyan",
    Verb.INFRA: "magenta",
    Verb.STOPPED: "magenta",
}
# Output of tests is printed behind a vertical bar, so that none of its lines matches this.
_VERB = re.compile(rf"^ *({'|'.join(Verb)}|Summary)(?= \[)")
_TITLE = re.compile(r"^(Failures:|Violations:|worst:|left behind:|unexpected:|Run [0-9a-f]{8})")


class RunningLines(Protocol):
    """The type of `Progress.running_lines`."""

    def __call__(self, *, columns: int | None, limit: int | None) -> list[str]:
        """Return lines of at most `columns` for at most `limit` tests."""
        ...


class ConsolePrinter:
    """Printer of lines with a coloured verb on a terminal."""

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        self.console = Console(file=stream, highlight=False, markup=False, emoji=False, no_color=not colour)
        self._colour = colour

    @property
    def columns(self) -> int | None:
        """The current width of the terminal."""
        return self.console.width

    def write(self, lines: Sequence[str]) -> None:
        """Print all lines at once, above the bar if there is one."""
        if lines:
            texts = [painted(line) if self._colour else Text(line) for line in lines]
            self.console.print(Text("\n").join(texts), soft_wrap=True)


def painted(line: str) -> Text:
    """Return the line with its verb or title in colour."""
    text = Text(line)
    if found := _VERB.match(line):
        word = found.group(1)
        text.stylize("bold" if word == "Summary" else f"bold {_STYLES.get(Verb(word), 'red')}", *found.span(1))
    elif found := _TITLE.match(line):
        text.stylize("bold", *found.span(1))
    return text


class Bar:
    """Live bar below the running tests: done/total, elapsed and remaining time, failures."""

    def __init__(
        self, console: Console, *, redirect_stderr: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._redirect_stderr = redirect_stderr
        self._clock = clock
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._running_lines: RunningLines | None = None
        self._started_seconds = 0.0
        self._weights: dict[str, float] = {}
        self._done = self._failed = self._total = 0
        self._done_weight = self._total_weight = 0.0

    def start(self, plan: Sequence[Assignment], running: RunningLines) -> None:
        """Show the bar. Each refresh calls `running` for the lines of running tests."""
        self._weights = weights_of(plan)
        self._total = len(plan)
        # A repeated test counts once for each repetition.
        self._total_weight = sum(self._weights[str(assignment.test.id)] for assignment in plan)
        self._running_lines = running
        self._started_seconds = self._clock()
        self._live = Live(
            console=self._console,
            get_renderable=self.render,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            # Log lines on the same terminal go above the bar; a stderr that is a file is not redirected.
            redirect_stderr=self._redirect_stderr,
        )
        self._live.start()

    def advance(self, result: TestResult) -> None:
        """Count one more finished test."""
        with self._lock:
            self._done += 1
            self._failed += is_failure(result)
            self._done_weight += self._weights.get(str(result.test.id), 0.0)

    def stop(self) -> None:
        """Remove the bar from the terminal. May be called twice, or before `start`."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def render(self) -> Text:
        """Return the current text of the running tests and the bar."""
        width, height = self._console.size
        rows = max(1, min(MAX_ROWS, height // 2 - 1))
        running = self._running_lines(columns=width - 1, limit=rows) if self._running_lines else []
        return Text("\n".join([*running, shorten_end(self._status(width - 1), width - 1)]), no_wrap=True)

    def _status(self, width: int) -> str:
        with self._lock:
            done, failed, weight = self._done, self._failed, self._done_weight
        elapsed = self._clock() - self._started_seconds
        eta = eta_seconds(elapsed, weight, self._total_weight)
        words = [f"{done}/{self._total}", f"elapsed {format_clock(elapsed)}"]
        if eta is not None and done < self._total:
            words.append(f"ETA {format_clock(eta)}")
        if failed:
            words.append(f"{failed} failed")
        text = "  ".join(words)
        return f"{bar_text(done, self._total, max(5, min(40, width - len(text) - 2)))}  {text}"


def weights_of(plan: Sequence[Assignment]) -> dict[str, float]:
    """Return the expected seconds by test id: from history, else the mean of the known ones, else 1."""
    known = [a.history.duration_seconds_p95 for a in plan if a.history is not None]
    usual = sum(known) / len(known) if known else 1.0
    return {
        str(assignment.test.id): assignment.history.duration_seconds_p95 if assignment.history else usual
        for assignment in plan
    }


def eta_seconds(elapsed_seconds: float, done_weight: float, total_weight: float) -> float | None:
    """Return the remaining time at the speed so far; None before anything is done."""
    if done_weight <= 0:
        return None
    return elapsed_seconds * max(total_weight - done_weight, 0.0) / done_weight


def bar_text(done: int, total: int, width: int) -> str:
    """Return a bar such as `━━━━╌╌╌╌` with `width` columns."""
    filled = width if total <= 0 else min(width, width * done // total)
    return "━" * filled + "╌" * (width - filled)
