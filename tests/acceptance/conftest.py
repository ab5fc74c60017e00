"""Fixtures that run the `orch` program as a user does, in a process and project of its own, on the real engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as acceptance tests that need the engine."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.acceptance)
            item.add_marker(pytest.mark.docker)


@dataclass(frozen=True, kw_only=True)
class Orch:
    """Runs `orch` in a project's folder."""

    project: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator", *words]

    def environment(self) -> dict[str, str]:
        """Return a user's environment, without this machine's settings for orch and Python."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORCH_", "PYTHON"))}
        return {**kept, "PYTHONPATH": str(CHECKOUT), "NO_COLOR": "1", "COLUMNS": "120", **self.env}

    def __call__(
        self, *words: str, expect: int | None = 0, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end. The exit code must be `expect` (None: any)."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.project,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if expect is not None:
            said = f"\n-- stdout\n{done.stdout}\n-- stderr\n{done.stderr}"
            assert done.returncode == expect, (
                f"orch {' '.join(words)} exited {done.returncode}, not {expect}{said}"
            )
        return done

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the program in a process group of its own, like a terminal's job; the caller ends it."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.project,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def write_files(root: Path, files: Mapping[str, str]) -> Path:
    """Write files into a project's folder."""
    root.mkdir()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds, and return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def docker(*words: str) -> list[str]:
    """Return the lines that the engine's own command line prints, which do not depend on orch."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def objects_of(run_id: str) -> list[str]:
    """Return the containers, volumes and networks on the engine with a run's label."""
    label = f"label=io.orch.run={run_id}"
    found = [f"container {name}" for name in docker("ps", "-a", "--filter", label, "--format", "{{.Names}}")]
    for kind in ("volume", "network"):
        found += [f"{kind} {name}" for name in docker(kind, "ls", "--filter", label, "--format", "{{.Name}}")]
    return found


@pytest.fixture(scope="session", autouse=True)
def images(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Build both shipped images before any test runs; takes seconds if they exist, otherwise minutes."""
    project = tmp_path_factory.mktemp("images")
    Orch(project=project)("build", "--offline-base", "--quiet", seconds=900)


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[[Mapping[str, str]], Orch]:
    """Return a function that makes a new project of the given files."""

    def make(files: Mapping[str, str], *, name: str = "project") -> Orch:
        return Orch(project=write_files(tmp_path / name, files))

    return make


def run_folders(orch: Orch) -> Sequence[Path]:
    """Return a project's run folders, oldest first."""
    return sorted((orch.project / ".orch" / "runs").iterdir())
