from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from orchestrator.model.outcomes import Outcome
from orchestrator.model.tests import History
from orchestrator.model.usage import Sample
from orchestrator.reports.terminal.live_bar import Bar, bar_text, eta_seconds, weights_of
from orchestrator.reports.terminal.progress import BarProgress, Progress, StreamPrinter, open_progress

ESCAPE = "\x1b"


@pytest.fixture
def terminal(monkeypatch):
    """A real pseudo-terminal of 80x24: (stream to write to, function that returns all that was written)."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    control, user = os.openpty()
    fcntl.ioctl(user, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    received = bytearray()

    def read():
        while True:
            try:
                data = os.read(control, 65536)
            except OSError:  # the other end was closed
                return
            received.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    stream = os.fdopen(user, "w", encoding="utf-8")

    def written():
        if not stream.closed:
            stream.close()
        reader.join(5)
        return received.decode()

    yield stream, written
    written()
    os.close(control)


def drive(progress, build):
    """Two tests, one of which fails."""
    good, bad = (
        build.result("test/a.py"),
        build.result("test/b.py", "failed", message="exit 1", stdout=b"why\n"),
    )
    plan = [result.final.assignment for result in (good, bad)]
    progress.start(build.run, plan)
    for result in (good, bad):
        progress.started(result.final.assignment)
        progress.finished(result)
    progress.summary(build.summary(good, bad))


def test_a_pipe_gets_one_plain_line_a_test_whatever_is_asked(build):
    for mode in ("auto", "bar", "plain"):
        stream = io.StringIO()
        drive(open_progress(mode, stream, env={"TERM": "xterm", "FORCE_COLOR": "1"}), build)
        text = stream.getvalue()
        assert ESCAPE not in text
        assert text.startswith("Run b0b38ba7   2 tests")
        assert text.count("] ") == text.count("PASS [") + text.count("FAIL [") + text.count("Summary [")
        assert [text.count("PASS ["), text.count("FAIL [")] == [1, 2]  # a failure comes back at the end
        assert text.count("    | why\n") == 1


def test_none_prints_only_the_end(build):
    stream = io.StringIO()
    drive(open_progress("none", stream, env={}), build)
    assert stream.getvalue().startswith("\nFailures:\n")


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="fancy"):
        open_progress("fancy", io.StringIO(), env={})


@pytest.mark.parametrize(("when", "times"), [("immediate", 1), ("final", 1), ("never", 0)])
def test_failure_output_comes_when_asked(build, when, times):
    stream = io.StringIO()
    drive(Progress(StreamPrinter(stream), failure_output=when), build)
    text = stream.getvalue()
    assert text.count("    | why\n") == times
    if when == "immediate":
        assert text.index("    | why") < text.index("Failures:")


def test_success_output_immediately(build):
    stream = io.StringIO()
    progress = Progress(StreamPrinter(stream), success_output="immediate")
    progress.finished(build.result(stdout=b"fine\n"))
    assert stream.getvalue().endswith("test/test_parse.py\n  stdout:\n    | fine\n")


def test_profiles_are_padded_to_the_longest_of_the_plan(build):
    stream = io.StringIO()
    progress = Progress(StreamPrinter(stream))
    slow, long = build.profile("slow"), build.profile("intensive")
    progress.start(build.run, [build.assignment(profile=slow), build.assignment("b.py", profile=long)])
    progress.finished(build.result(profile=slow))
    assert "  slow       test/test_parse.py" in stream.getvalue()


def test_a_stream_that_lacks_a_character_gets_its_escape(build):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    Progress(StreamPrinter(stream)).finished(build.result("test/é.py"))
    assert rb"test/\xe9.py" in raw.getvalue()


def test_a_closed_pipe_reaches_the_caller(build):
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    with pytest.raises(BrokenPipeError):
        Progress(StreamPrinter(stream)).finished(build.result())
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_pipe_never_imports_rich():
    code = (
        "import io, sys; from orchestrator.reports.terminal.progress import open_progress;"
        "open_progress('bar', io.StringIO(), env={}); sys.exit('rich' in sys.modules)"
    )
    env = {"PYTHONPATH": str(Path.cwd())}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0


def test_running_tests_are_known_until_they_finish(build):
    now = [10.0]
    samples = {"a.py": Sample(at_seconds=1.0, memory_bytes=5 << 20, cpu_seconds=0.5)}
    progress = Progress(StreamPrinter(io.StringIO()), snapshot=lambda: samples, clock=lambda: now[0])
    progress.started(build.assignment("a.py"))
    now[0] = 12.0
    progress.started(build.assignment("a.py", repetition=2))
    assert progress.running_lines() == [
        "   running [  2.000s]   5M/512M  cpu 0.5s  standard  a.py",
        "   running [    <1ms]    ?/512M  cpu ?     standard  a.py#2",
    ]
    progress.finished(build.result("a.py"))
    assert [line.split()[-1] for line in progress.running_lines()] == ["a.py#2"]


# ---------------------------------------------------------------- on a terminal


def test_a_terminal_gets_a_bar_colours_and_its_cursor_back(build, terminal):
    stream, written = terminal
    samples = {"test/a.py": Sample(at_seconds=0.1, memory_bytes=61 << 20, cpu_seconds=0.2)}
    progress = open_progress("auto", stream, snapshot=lambda: samples, env={"TERM": "xterm-256color"})
    assert isinstance(progress, BarProgress)
    good, bad = build.result("test/a.py"), build.result("test/b.py", "failed")
    with progress:
        progress.start(build.run, [good.final.assignment, bad.final.assignment])
        progress.started(good.final.assignment)
        time.sleep(0.4)
        progress.finished(good)
        progress.finished(bad)
        progress.summary(build.summary(good, bad))
    text = written()
    assert re.search(r"running \[  0\.\d{3}s\]  61M/512M  cpu 0\.2s  standard  test/a\.py", text)
    assert "╌  0/2  elapsed 0s" in text
    assert f"{ESCAPE}[1;32mPASS{ESCAPE}[0m [" in text
    assert f"{ESCAPE}[1;31mFAIL{ESCAPE}[0m [" in text
    assert text.rindex(f"{ESCAPE}[?25h") > text.rindex(f"{ESCAPE}[?25l")
    assert "   Summary" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_no_color_is_honoured(build, terminal):
    stream, written = terminal
    drive(open_progress("plain", stream, env={"TERM": "xterm-256color", "NO_COLOR": "1"}), build)
    text = written()
    assert ESCAPE not in text
    assert "PASS [" in text


@pytest.mark.parametrize("env", [{"TERM": "xterm", "CI": "true"}, {"TERM": "dumb"}])
def test_ci_and_dumb_terminals_get_no_bar(terminal, env):
    assert not isinstance(open_progress("auto", terminal[0], env=env), BarProgress)


def test_a_terminal_is_not_left_without_cursor_after_an_exception(build, terminal):
    stream, written = terminal

    def interrupted():
        with open_progress("bar", stream, env={"TERM": "xterm"}) as progress:
            progress.start(build.run, [build.assignment()])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = written()
    assert text.rindex(f"{ESCAPE}[?25h") > text.rindex(f"{ESCAPE}[?25l")


def test_sixty_four_running_tests_keep_the_bar_low_and_narrow(build, terminal):
    stream, written = terminal
    progress = open_progress("bar", stream, env={"TERM": "xterm"})
    plan = [build.assignment(f"test/{'long/' * 20}{n}.py") for n in range(64)]
    with progress:
        progress.start(build.run, plan)
        for assignment in plan:
            progress.started(assignment)
        lines = progress._bar.render().plain.split("\n")
    written()
    assert len(lines) <= 12
    assert all(len(line) < 80 for line in lines)
    assert "more running" in lines[-2]


def test_the_remaining_time_goes_by_history(build):
    known = History(
        attempts=3,
        duration_seconds_p95=9.0,
        memory_bytes_p95=None,
        cpus_p95=None,
        last_outcome=Outcome.PASSED,
    )
    plan = [build.assignment("a.py", history=known), build.assignment("b.py")]
    assert weights_of(plan) == {"a.py": 9.0, "b.py": 9.0}
    assert weights_of(plan[1:]) == {"b.py": 1.0}
    assert eta_seconds(3.0, 9.0, 18.0) == 3.0
    assert eta_seconds(3.0, 0.0, 18.0) is None


def test_the_bar_fills_up():
    assert [bar_text(done, 4, 4) for done in (0, 1, 4, 9)] == ["╌╌╌╌", "━╌╌╌", "━━━━", "━━━━"]
    assert bar_text(0, 0, 3) == "━━━"


def test_stopping_a_bar_that_never_started_is_nothing():
    from rich.console import Console

    Bar(Console(file=io.StringIO())).stop()
