"""Runs a test both ways, outside containers: as a pytest of its own, and forked from a preloaded one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from orchestrator.engine.slots.preload import preloading, server_argv
from orchestrator.model.suites import Preload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PYTHON = os.environ.get("ORCH_TEST_PRELOAD_PYTHON", sys.executable)
"""Whose pytest is compared: another version's can be named."""
PLAIN = ("-p", "no:cacheprovider")


@dataclass(frozen=True)
class Seen:
    """What a test leaves, with times, addresses and process ids taken out."""

    code: int
    stdout: str
    stderr: str
    report: str | None


def words(folder: Path, target: str, arguments: Sequence[str] = PLAIN) -> list[str]:
    """As `suites.pytest` builds them."""
    name = f"junit_suite_name=orch-{abs(hash(target)):x}"
    report = (f"--junitxml={folder / 'out' / 'results.xml'}", "-o", "junit_family=xunit1", "-o", name)
    return ["python3", "-m", "pytest", *arguments, *report, target]


def environment(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The same for both ways."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    (folder / "tmp").mkdir(exist_ok=True)
    kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what a case is about is named in it
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder / "tmp"), **env}


def run_plain(folder: Path, argv: Sequence[str], env: Mapping[str, str]) -> Seen:
    """A process of its own."""
    done = subprocess.run(
        [PYTHON, *argv[1:]],
        cwd=folder,
        env=environment(folder, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return seen(folder, code, done.stdout, done.stderr)


class Preloaded:
    """A server as the agent starts it, with files for the tests' streams."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, mode: Preload = Preload.START) -> None:
        self.folder = folder
        self.mode = mode
        self.env = dict(env or {})
        self.answer = ""

    def __enter__(self) -> Self:
        self._files = [(self.folder / name).open("w+b", buffering=0) for name in ("stdout", "stderr")]
        plan = preloading(self.mode, words(self.folder, "x"), str(self.folder), {})
        assert plan is not None
        *_, program, text = server_argv()
        script = 'exec 8>>"$1" 9>>"$2"; shift 2; exec "$@"'
        streams = [str(self.folder / name) for name in ("stdout", "stderr")]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", *streams, PYTHON, "-c", program, text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env=environment(self.folder, self.env),
        )
        return self

    def ask(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Seen | None:
        """None where the server refused; `answer` is what it said."""
        plan = preloading(self.mode, argv, str(self.folder), env or {})
        assert plan is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for file in self._files:
            file.truncate(0)
        self._process.stdin.write(plan.request.encode() + b"\n")
        self._process.stdin.flush()
        self.answer = self._process.stdout.readline().decode()
        word, rest = self.answer.split(" ", 1)
        out, err = ((self.folder / name).read_bytes() for name in ("stdout", "stderr"))
        if word == "refuse":
            assert not out + err
            return None
        return seen(self.folder, int(rest.split()[0]), out, err)

    @property
    def pids(self) -> list[int]:
        """The processes that serve."""
        numbers = [int(number) for number in re.findall(r"\d+", self.answer.partition(":")[0])]
        return numbers[1:] if self.answer.startswith("exit") else numbers

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        for file in (*self._files, self._process.stdout):
            assert file is not None
            file.close()


def seen(folder: Path, code: int, stdout: bytes, stderr: bytes) -> Seen:
    """Takes the report away for the next test."""
    report = folder / "out" / "results.xml"
    text = report.read_text() if report.exists() else None
    if text is not None:
        report.unlink()
    return Seen(code, timeless(stdout.decode()), timeless(stderr.decode()), text and timeless(text))


def timeless(text: str) -> str:
    """Without what differs between any two processes."""
    text = re.sub(r"=* (.*) in \d+\.\d+s( \(\d:\d\d:\d\d\))? =*", r"= \1 in T =", text)
    text = re.sub(r'(time|timestamp)="[^"]*"', r'\1="T"', text)
    text = re.sub(r'(name="hypothesis-statistics-[^"]*" value)="[^"]*"', r'\1="T"', text)  # times, encoded
    text = re.sub(r"\b0x[0-9a-f]{6,}", "0xADDRESS", text)
    return re.sub(r"pytest-of-\w+/pytest-\d+", "pytest-of-me/pytest-N", text)
