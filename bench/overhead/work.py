"""Write the tests that are timed: small shell scripts and small pytest files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.overhead.process import run

if TYPE_CHECKING:
    from pathlib import Path

WANTED_SECONDS = 0.005
"""The intended duration of one shell test without a container."""
_PROBES = 60

_SHELL = """# A test of the overhead benchmark: {forks} forks and a loop.
count=0 total=0
while [ "$count" -lt {loops} ]; do
    count=$((count + 1)) total=$((total + count % 7))
done
[ "$total" -gt 0 ] || exit 1
printf '%s\\n' gamma alpha beta | sort >"${{TMPDIR:-/tmp}}/overhead.$$" || exit 1
read -r first <"${{TMPDIR:-/tmp}}/overhead.$$"
rm "${{TMPDIR:-/tmp}}/overhead.$$"
[ "$first" = alpha ] || exit 1
echo "ok {number}"
"""
_FORKS = 3
SHELL_PROFILES = """version: 1
profiles:
  fresh: {inherits: fast, reuse: 1, timeout: 10s}
default_profile: fast
suites:
  - {name: shell, match: ["tests/*.test.sh"], runner: shell}
"""

_PYTEST = """import os


def test_word_{number}(word):
    assert word.upper() == "WORD"


def test_sum_{number}():
    assert sum(range({number})) == {number} * ({number} - 1) // 2


def test_place_{number}(tmp_path):
    (tmp_path / "file").write_text("{number}")
    assert os.listdir(tmp_path) == ["file"]
"""
_CONFTEST = """import pytest


@pytest.fixture
def word():
    return "word"
"""
_PYTEST_PROFILES = """version: 1
profiles:
  quick: {{inherits: fast, reuse: 1000, timeout: 30s, memory: 256m}}
default_profile: quick
suites:
  - {{name: pytest, match: ["tests/test_*.py"], runner: pytest, preload: {preload}}}
"""
CASES_A_FILE = 3
PROFILE = "quick"
"""The profile of the pytest files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """The length of the shell tests on this machine."""

    loops: int
    milliseconds: float
    """The duration of one test without a container, by `xargs -n1 -P1 sh`."""


def write_shell_tests(folder: Path, tests: int, loops: int) -> Path:
    """Write a project of shell tests; return the file that lists their paths for xargs."""
    place = folder / "tests"
    place.mkdir(parents=True)
    names = [f"tests/n{number:04d}.test.sh" for number in range(tests)]
    for number, name in enumerate(names):
        (folder / name).write_text(_SHELL.format(number=number, loops=loops, forks=_FORKS))
    (folder / "profiles.yaml").write_text(SHELL_PROFILES)
    listed = folder.parent / f"{folder.name}.list"
    listed.write_text("\n".join(names) + "\n")
    return listed


def write_pytest_files(folder: Path, files: int, preload: str) -> Path:
    """Write a project of pytest files with three short tests each and a conftest; return the list of
    their paths.
    """
    place = folder / "tests"
    place.mkdir(parents=True)
    names = [f"tests/test_n{number:03d}.py" for number in range(files)]
    for number, name in enumerate(names):
        (folder / name).write_text(_PYTEST.format(number=number))
    (place / "conftest.py").write_text(_CONFTEST)
    (folder / "profiles.yaml").write_text(_PYTEST_PROFILES.format(preload=preload))
    listed = folder.parent / f"{folder.name}.list"
    listed.write_text("\n".join(names) + "\n")
    return listed


FOLDERS = 10
CASES_OF_NEW_PROJECT = 4


def write_new_project(folder: Path, files: int) -> None:
    """Write a project without profiles.yaml: pytest files of four short tests in ten folders, and a conftest."""
    for number in range(files):
        place = folder / "tests" / f"part{number % FOLDERS}"
        place.mkdir(parents=True, exist_ok=True)
        more = f'\n\ndef test_text_{number}():\n    assert "a{number}".endswith("{number}")\n'
        (place / f"test_n{number:03d}.py").write_text(_PYTEST.format(number=number) + more)
    (folder / "tests" / "conftest.py").write_text(_CONFTEST)


def calibrate(folder: Path) -> Calibrated:
    """Return the number of loop iterations with which a shell test takes 5 ms now (more, if the rest takes
    longer).
    """
    short, long = _milliseconds(folder / "short", 1), _milliseconds(folder / "long", 4000)
    each = max((long - short) / 3999, 1e-6)
    loops = max(1, round((WANTED_SECONDS * 1000 - short) / each))
    return Calibrated(loops=loops, milliseconds=_milliseconds(folder / "chosen", loops))


def _milliseconds(folder: Path, loops: int) -> float:
    """Return the shortest of three measurements; other work on the machine only makes it longer."""
    listed = write_shell_tests(folder, _PROBES, loops)
    best = min(run(xargs(listed, 1, "sh"), folder=folder, keep_output=False).wall_seconds for _ in range(3))
    return best * 1000 / _PROBES


def xargs(listed: Path, at_once: int, *words: str) -> list[str]:
    """Return the command that starts a process for each line of the list."""
    return ["xargs", "-a", str(listed), "-n1", f"-P{at_once}", *words]


def settle() -> None:
    """Wait for pending removals and writes of the last contender."""
    time.sleep(0.5)
