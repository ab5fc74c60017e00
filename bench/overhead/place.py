"""Where a run of the benchmark keeps its things, and what its rows share."""

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
class Place:
    """A temporary folder that is removed at the end, with what is made there once."""

    folder: Path
    quick: bool
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    """Label of every container that the benchmark itself makes."""

    def size(self, whole: int, quick: int) -> int:
        """How many tests: fewer with --quick."""
        return quick if self.quick else whole

    def sub(self, name: str) -> Path:
        """A new folder."""
        made = self.folder / name
        made.mkdir(parents=True)
        return made

    @cached_property
    def shell(self) -> Calibrated:
        """How long the loop of a shell test is."""
        return calibrate(self.folder / "calibration")

    @cached_property
    def versions(self) -> Versions:
        """Of the isolation image's Python and pytest."""
        return versions_in(IMAGE)

    @cached_property
    def python(self) -> tuple[str, str]:
        """The nearest Python of this machine, and its version."""
        return find_python(self.versions)

    @cached_property
    def pytest_python(self) -> Path:
        """Of a venv with the image's pytest and nothing else."""
        return make_venv(self.folder / "venv-pytest", self.python[0], [f"pytest=={self.versions.pytest}"])

    @cached_property
    def xdist_python(self) -> Path:
        """Of a venv with xdist only: pytest comes with the projects' own prepared dependencies."""
        packages = ["--no-deps", "pytest-xdist", "execnet"]
        return make_venv(self.folder / "venv-xdist", self.python[0], packages)

    @property
    def python_fact(self) -> str:
        """Which Pythons were held against each other."""
        image, here = self.versions.python, self.python[1]
        same = "the same version as" if here == image else "not the version of"
        return f"native Python {here}, {same} the image's {image}; pytest {self.versions.pytest} in both"
