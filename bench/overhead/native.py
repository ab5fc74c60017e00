"""Run pytest outside of containers, in venvs with the Python and pytest versions of the image."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.overhead.comparing import RowError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ASK = "import platform, pytest; print(platform.python_version(), pytest.__version__)"
_SUMMARY = re.compile(r"(\d+) (passed|failed|skipped|xfailed|xpassed|errors?|deselected|warnings?)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The versions of Python and pytest in an image."""

    python: str
    pytest: str

    @property
    def minor(self) -> str:
        """Major and minor version of Python, such as `3.11`."""
        return ".".join(self.python.split(".")[:2])


def versions_in(image: str) -> Versions:
    """Return the versions in the image. Raises RowError if it has no pytest."""
    words = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image, "-c", _ASK]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RowError(f"asking {image} for its Python: {done.stderr.strip()}")
    python, pytest = done.stdout.split()
    return Versions(python=python, pytest=pytest)


def find_python(wanted: Versions) -> tuple[str, str]:
    """Return a Python program and its version: the same version as the image's, else the same minor version, else
    the running one.
    """
    near = None
    for folder in ("/usr/bin", "/usr/local/bin", None):
        program = shutil.which(f"python{wanted.minor}", path=folder)
        if program is None:
            continue
        version = _version_of(program)
        if version == wanted.python:
            return program, version
        near = near or (program, version)
    if near is not None and near[1] is not None:
        return near[0], near[1]
    return sys.executable, _version_of(sys.executable) or "?"


def _version_of(program: str) -> str | None:
    words = [program, "-c", "import platform; print(platform.python_version())"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def make_venv(folder: Path, python: str, packages: Sequence[str]) -> Path:
    """Create a venv with these packages and return its Python. Raises RowError.

    The running Python's pip is used, because another Python may have none.
    """
    program = folder / "bin" / "python"
    steps = [
        [python, "-m", "venv", "--without-pip", str(folder)],
        [*_pip(), "--python", str(program), "install", "--quiet", *packages],
    ]
    for words in steps:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RowError(f"{' '.join(words[:4])}: {(done.stderr or done.stdout).strip()[-600:]}")
    return program


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


def summary_counts(output: bytes) -> dict[str, int]:
    """Return outcome -> number of cases from pytest's summary line. Raises RowError if there is none."""
    for line in reversed(output.decode(errors="replace").splitlines()):
        found = {word: int(number) for number, word in _SUMMARY.findall(line)}
        if found and " in " in line:
            return {word: number for word, number in found.items() if not word.startswith("warning")}
    raise RowError("pytest ended without saying how many passed")
