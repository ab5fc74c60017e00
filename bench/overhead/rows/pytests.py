"""The rows of pytest: small files compared with plain pytest, real projects compared with pytest-xdist."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from bench.overhead.comparing import Comparison, Contender, CpuFigure, Row, RowError
from bench.overhead.native import summary_counts
from bench.overhead.process import run
from bench.overhead.under_orch import REPOSITORY, Orch, case_outcomes, executor_alone
from bench.overhead.work import (
    CASES_A_FILE,
    CASES_OF_NEW_PROJECT,
    PROFILE,
    write_new_project,
    write_pytest_files,
    xargs,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.overhead.comparing import Timing
    from bench.overhead.workspace import Workspace

_EACH, _ONE, _ALONE = "pytest a file, xargs -P", "one pytest", "executor alone, "
# name, PYTHONPATH of a plain run, files of tests
PROJECTS = (
    ("toolz", ".image/deps", 15),
    ("more-itertools", ".image/deps", 2),
    ("packaging", "src:.image/deps", 13),
)


def small_files(workspace: Workspace) -> Row:
    """Return the row of 200 small files, preloaded at start-up and after collection."""
    files = workspace.size(200, 20)
    orchs = _preloaded(workspace, files)
    for orch in orchs:
        _check_cases(orch, files)
    return Row(
        name="pytest-files",
        title=f"{files} small pytest files, reused and preloaded",
        contenders=(
            *(Contender(name=o.name, run=o.measure) for o in orchs),
            *_natively(workspace, files),
            *_alone(workspace.folder / "pytest-start"),
        ),
        comparisons=_small_comparisons(),
        cpu_figures=tuple(CpuFigure(title="orch's own CPU", contender=o.name, tests=files) for o in orchs),
        facts=[workspace.python_fact, "one `pytest` for all runs on one core, orch -j 2 on both"],
    )


def new_project(workspace: Workspace) -> Row:
    """Return the row of 200 small files in ten folders with nothing configured, as a new user runs them."""
    files = workspace.size(200, 20)
    project = workspace.folder / "new-project"
    write_new_project(project, files)
    default = Orch("orch run", project, workspace.sub("new-project-state"), tests=files)
    fresh = Orch("orch run --fresh", project, workspace.sub("new-project-state-fresh"), "--fresh", tests=files)
    for orch in (default, fresh):
        if (found := case_outcomes(orch.warm_up())) != {"passed": files * CASES_OF_NEW_PROJECT}:
            raise RowError(f"{orch.name}: {files * CASES_OF_NEW_PROJECT} cases were to pass, it says {found}")
    python = [str(workspace.pytest_xdist_python), "-m", "pytest", "-q"]
    wanted = {"passed": files * CASES_OF_NEW_PROJECT}
    natively = {
        "one pytest": [*python, "-p", "no:xdist", "tests"],
        "pytest -n 2": [*python, "-n", "2", "tests"],
    }
    natives = [Contender(name=n, run=partial(_native, n, words, project, wanted)) for n, words in natively.items()]
    return Row(
        name="new-project",
        title=f"{files} small pytest files in ten folders, nothing configured",
        contenders=(*(Contender(name=o.name, run=o.measure) for o in (default, fresh)), *natives),
        comparisons=(
            Comparison(title="one pytest for all", ours=default.name, theirs="one pytest", target=3.0),
            Comparison(title="pytest -n 2", ours=default.name, theirs="pytest -n 2"),
            Comparison(title="a container each", ours=fresh.name, theirs="one pytest"),
            Comparison(title="reused, against a container each", ours=default.name, theirs=fresh.name),
        ),
        facts=[workspace.python_fact],
    )


def _preloaded(workspace: Workspace, files: int) -> list[Orch]:
    """Return a contender for each way to preload, with a project of its own, because preloading is set there."""
    found = []
    for preload, all_jobs in (("start", (1, 2)), ("collect", (2,))):
        project = workspace.folder / f"pytest-{preload}"
        write_pytest_files(project, files, preload)
        for jobs in all_jobs:
            state = workspace.sub(f"pytest-state-{preload}-{jobs}")
            name = f"orch -j {jobs}, preload {preload}"
            found.append(Orch(name, project, state, "-j", str(jobs), tests=files))
    return found


def _alone(project: Path) -> list[Contender]:
    """Return orch's executor with preloaded pytest, without scheduler, verdicts, events and database."""
    names = {jobs: f"{_ALONE}{jobs} at once" for jobs in (1, 2)}
    return [Contender(name=n, run=partial(executor_alone, n, project, PROFILE, jobs)) for jobs, n in names.items()]


def _natively(workspace: Workspace, files: int) -> list[Contender]:
    """Return the contenders of plain pytest, on a copy of the files where byte code is kept as usual."""
    native = workspace.folder / "pytest-native"
    listed = write_pytest_files(native, files, "start")
    python = [str(workspace.pytest_python), "-m", "pytest", "-q"]
    all_cases = {"passed": files * CASES_A_FILE}
    one = Contender(name=_ONE, run=partial(_native, _ONE, [*python, "tests"], native, all_cases))
    one.run()  # fill the byte code and page caches
    names = {jobs: f"{_EACH}{jobs}" for jobs in (1, 2)}
    each = [
        Contender(name=name, run=partial(_native, name, xargs(listed, jobs, *python), native))
        for jobs, name in names.items()
    ]
    return [*each, one]


def _small_comparisons() -> tuple[Comparison, ...]:
    first, second, collect = "orch -j 1, preload start", "orch -j 2, preload start", "orch -j 2, preload collect"
    return (
        Comparison(title="a process a file, 1 at once", ours=first, theirs=f"{_EACH}1", target=0.10),
        Comparison(title="a process a file, 2 at once", ours=second, theirs=f"{_EACH}2", target=0.10),
        Comparison(title="the same, forked after collection", ours=collect, theirs=f"{_EACH}2"),
        Comparison(title="the limit: executor alone", ours=f"{_ALONE}1 at once", theirs=f"{_EACH}1"),
        Comparison(title="the limit: executor alone", ours=f"{_ALONE}2 at once", theirs=f"{_EACH}2"),
        Comparison(title="one pytest for all", ours=second, theirs=_ONE, target=4.0),
        Comparison(title="the same, forked after collection", ours=collect, theirs=_ONE),
        Comparison(title="the limit: executor alone", ours=f"{_ALONE}2 at once", theirs=_ONE),
    )


def _check_cases(orch: Orch, files: int) -> None:
    """Do a warm-up run. Raises RowError if a case is missing."""
    found = case_outcomes(orch.warm_up())
    if found != {"passed": files * CASES_A_FILE}:
        raise RowError(f"{orch.name}: {files * CASES_A_FILE} cases were to pass, it says {found}")


def _native(
    name: str,
    words: Sequence[str],
    folder: Path,
    wanted: Mapping[str, int] | None = None,
    env: Mapping[str, str] | None = None,
) -> Timing:
    """Run plain pytest. Raises RowError if its summary line does not have the `wanted` counts."""
    ended = run(words, folder=folder, env=env)
    if wanted is not None and (said := summary_counts(ended.stdout)) != wanted:
        raise RowError(f"{name}: {wanted} were to come, pytest says {said}")
    return ended.timing(name)


def real_projects(workspace: Workspace) -> Row:
    """Return the row of three real projects with their shipped settings."""
    contenders: list[Contender] = []
    comparisons: list[Comparison] = []
    facts = [
        f"native Python {workspace.python[1]} (the image's: {workspace.versions.python})",
        "pytest from the projects' dependencies",
    ]
    for name, python_path, files in PROJECTS[: 1 if workspace.quick else None]:
        project = workspace.folder / "real" / name
        prepare(name, project)
        orch = Orch(f"orch, {name}", project, workspace.sub(f"real-state-{name}"), tests=files)
        outcomes = case_outcomes(orch.warm_up())
        xdist = f"pytest -n 2, {name}"
        # plain pytest writes byte code to the sources' folder; the container can read but not write it
        words = [str(workspace.xdist_python), "-m", "pytest", "-q", "-n", "2"]
        native = partial(_native, xdist, words, project, outcomes, {"PYTHONPATH": python_path})
        native()
        contenders += [Contender(name=orch.name, run=orch.measure), Contender(name=xdist, run=native)]
        comparisons.append(Comparison(title=name, ours=orch.name, theirs=xdist, target=1.25))
        facts.append(f"{name}: {_told(outcomes)}, the same from orch and from plain pytest in every run")
    return Row(
        name="real",
        title="real projects, default settings",
        contenders=tuple(contenders),
        comparisons=tuple(comparisons),
        facts=facts,
    )


def prepare(name: str, folder: Path) -> None:
    """Prepare a project's sources, tests and dependencies. Raises RowError if the package index does
    not answer.
    """
    words = [sys.executable, str(REPOSITORY / "examples/real/prepare.py"), name, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RowError(done.stderr.strip())


def _told(outcomes: Mapping[str, int]) -> str:
    return f"{sum(outcomes.values()):,} cases ({', '.join(f'{n:,} {word}' for word, n in outcomes.items())})"
