"""Rows of pytest: small files against a process each and one for all, real projects against xdist."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from bench.floor import planned
from bench.overhead.comparing import Comparison, Contender, CpuFigure, Row, RowError
from bench.overhead.native import summary_counts
from bench.overhead.process import run
from bench.overhead.under_orch import REPOSITORY, Orch, agent_alone, case_outcomes
from bench.overhead.work import CASES_A_FILE, PROFILE, write_pytest_files, xargs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.overhead.comparing import Timing
    from bench.overhead.place import Place

_EACH, _ONE, _ALONE = "pytest a file, xargs -P", "one pytest", "agent alone, "
# name, PYTHONPATH of a plain run, files of tests
PROJECTS = (
    ("toolz", ".image/deps", 15),
    ("more-itertools", ".image/deps", 2),
    ("packaging", "src:.image/deps", 13),
)


def small_files(place: Place) -> Row:
    """200 files, preloaded at start-up and after collection."""
    files = place.size(200, 20)
    orchs = _preloaded(place, files)
    for orch in orchs:
        _check_cases(orch, files)
    return Row(
        name="pytest-files",
        title=f"{files} small pytest files, reused and preloaded",
        contenders=(
            *(Contender(name=o.name, run=o.measure) for o in orchs),
            *_natively(place, files),
            *_alone(place.folder / "pytest-start"),
        ),
        comparisons=_small_comparisons(),
        cpu_figures=tuple(CpuFigure(title="orch's own CPU", contender=o.name, tests=files) for o in orchs),
        facts=[place.python_fact, "one `pytest` for all runs on one core, orch -j 2 on both"],
    )


def _preloaded(place: Place, files: int) -> list[Orch]:
    """A project for each way to preload, since it stands in the suite's settings."""
    found = []
    for preload, all_jobs in (("start", (1, 2)), ("collect", (2,))):
        project = place.folder / f"pytest-{preload}"
        write_pytest_files(project, files, preload)
        for jobs in all_jobs:
            state = place.sub(f"pytest-state-{preload}-{jobs}")
            name = f"orch -j {jobs}, preload {preload}"
            found.append(Orch(name, project, state, "-j", str(jobs), tests=files))
    return found


def _alone(project: Path) -> list[Contender]:
    """Agent, streams, reader and the preloaded pytest: what orch would take if all else took nothing."""
    tests = planned(project, PROFILE)
    names = {jobs: f"{_ALONE}{jobs} at once" for jobs in (1, 2)}
    return [Contender(name=n, run=partial(agent_alone, n, project, tests, jobs)) for jobs, n in names.items()]


def _natively(place: Place, files: int) -> list[Contender]:
    """From a copy of their own, where byte code is kept as it is for anybody."""
    native = place.folder / "pytest-native"
    listed = write_pytest_files(native, files, "start")
    python = [str(place.pytest_python), "-m", "pytest", "-q"]
    all_cases = {"passed": files * CASES_A_FILE}
    one = Contender(name=_ONE, run=partial(_native, _ONE, [*python, "tests"], native, all_cases))
    one.run()  # once before: byte code, page cache
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
        Comparison(title="the limit: agent alone", ours=f"{_ALONE}1 at once", theirs=f"{_EACH}1"),
        Comparison(title="the limit: agent alone", ours=f"{_ALONE}2 at once", theirs=f"{_EACH}2"),
        Comparison(title="one pytest for all", ours=second, theirs=_ONE, target=4.0),
        Comparison(title="the same, forked after collection", ours=collect, theirs=_ONE),
        Comparison(title="the limit: agent alone", ours=f"{_ALONE}2 at once", theirs=_ONE),
    )


def _check_cases(orch: Orch, files: int) -> None:
    """Warm up, and see that every case was found."""
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
    """`wanted`: what pytest's closing line must say."""
    ended = run(words, folder=folder, env=env)
    if wanted is not None and (said := summary_counts(ended.stdout)) != wanted:
        raise RowError(f"{name}: {wanted} were to come, pytest says {said}")
    return ended.timing(name)


def real_projects(place: Place) -> Row:
    """Three real projects with their shipped settings."""
    contenders: list[Contender] = []
    comparisons: list[Comparison] = []
    facts = [
        f"native Python {place.python[1]} (the image's: {place.versions.python}); pytest of the projects' own"
    ]
    for name, python_path, files in PROJECTS[: 1 if place.quick else None]:
        project = place.folder / "real" / name
        prepare(name, project)
        orch = Orch(f"orch, {name}", project, place.sub(f"real-state-{name}"), tests=files)
        outcomes = case_outcomes(orch.warm_up())
        xdist = f"pytest -n 2, {name}"
        # byte code is kept natively, in the sources' folder; the container reads it too and cannot write any
        words = [str(place.xdist_python), "-m", "pytest", "-q", "-n", "2"]
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
    """The project's sources, tests and dependencies. RowError: the index does not answer."""
    words = [sys.executable, str(REPOSITORY / "examples/real/prepare.py"), name, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RowError(done.stderr.strip())


def _told(outcomes: Mapping[str, int]) -> str:
    return f"{sum(outcomes.values()):,} cases ({', '.join(f'{n:,} {word}' for word, n in outcomes.items())})"
