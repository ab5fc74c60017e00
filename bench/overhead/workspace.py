"""The temporary folder of a benchmark run, and what its rows share."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from bench.overhead.native import Versions, find_python, make_venv, versions_in
from bench.overhead.work import Calibrated, calibrate

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = "orch/test-isolation:latest"


@dataclass(kw_only=True)
class Workspace:
    """A temporary folder that is removed at the end, with things that are created once and used by
    several rows.
    """

    folder: Path
    quick: bool
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    """The value of the label of all containers that the benchmark itself creates."""

    def size(self, whole: int, quick: int) -> int:
        """Return the number of tests: `quick` with --quick, else `whole`."""
        return quick if self.quick else whole

    def sub(self, name: str) -> Path:
        """Create a folder and return it."""
        made = self.folder / name
        made.mkdir(parents=True)
        return made

    @cached_property
    def shell(self) -> Calibrated:
        """The calibrated length of a shell test."""
        return calibrate(self.folder / "calibration")

    @cached_property
    def versions(self) -> Versions:
        """The versions of Python and pytest in the isolation image."""
        return versions_in(IMAGE)

    @cached_property
    def python(self) -> tuple[str, str]:
        """The Python of this machine that is closest to the image's: the program and its version."""
        return find_python(self.versions)

    @cached_property
    def pytest_python(self) -> Path:
        """The Python of a venv with the image's pytest and nothing else."""
        return make_venv(self.folder / "venv-pytest", self.python[0], [f"pytest=={self.versions.pytest}"])

    @cached_property
    def pytest_xdist_python(self) -> Path:
        """The Python of a venv with the image's pytest and xdist."""
        packages = [f"pytest=={self.versions.pytest}", "pytest-xdist"]
        return make_venv(self.folder / "venv-pytest-xdist", self.python[0], packages)

    @cached_property
    def xdist_python(self) -> Path:
        """The Python of a venv with xdist only; pytest is among the prepared dependencies of the projects."""
        packages = ["--no-deps", "pytest-xdist", "execnet"]
        return make_venv(self.folder / "venv-xdist", self.python[0], packages)

    @property
    def python_fact(self) -> str:
        """A sentence with the versions of Python and pytest that are compared."""
        image, here = self.versions.python, self.python[1]
        same = "the same version as" if here == image else "not the version of"
        return f"native Python {here}, {same} the image's {image}; pytest {self.versions.pytest} in both"
