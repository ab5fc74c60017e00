"""Rows of small shell tests: in reused slots against the bare machine, in fresh ones against the bare engine."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.floor import planned
from bench.overhead.bare import LABEL, BareEngine, docker_run_words, run_all
from bench.overhead.comparing import Comparison, Contender, CpuFigure, Row, RowError
from bench.overhead.process import run
from bench.overhead.under_orch import Orch, agent_alone
from bench.overhead.work import write_shell_tests, xargs
from orchestrator.config.loader import load_config
from orchestrator.engine.docker.messages import container_config
from orchestrator.engine.isolation import hardening
from orchestrator.model.tests import Assignment, Command, Test, TestId

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.overhead.comparing import Timing
    from bench.overhead.place import Place

_JOBS = (1, 2, 3, 4, 6, 8)
_FEW = 48
"""Containers by which the best parallelism is found."""
_FRESH = ("--profile", "fresh")


def reused(place: Place) -> Row:
    """4,067 shell tests in reused slots, one and two at once. And by agent, streams and reader alone: what orch
    would take if verdicts, figures, events, the database and its own start took nothing.
    """
    tests = place.size(4067, 60)
    shell = place.shell
    project = place.folder / "reused-shell"
    listed = write_shell_tests(project, tests, shell.loops)
    assigned = planned(project, "fast")
    contenders, comparisons, figures, facts = [], [], [], [_about(place)]
    for jobs in (1, 2):
        orch = Orch(f"orch -j {jobs}", project, place.sub(f"reused-state-{jobs}"), "-j", str(jobs), tests=tests)
        orch.warm_up()
        bare = partial(_xargs, f"xargs -P{jobs}", xargs(listed, jobs, "sh"), project)
        agent = f"agent alone, {jobs} at once"
        contenders += [
            Contender(name=orch.name, run=orch.measure),
            Contender(name=f"xargs -P{jobs}", run=bare),
            Contender(name=agent, run=partial(agent_alone, agent, project, assigned, jobs)),
        ]
        comparisons += [
            Comparison(title=f"{jobs} at once", ours=orch.name, theirs=f"xargs -P{jobs}", target=1.05),
            Comparison(title="the limit: agent alone", ours=agent, theirs=f"xargs -P{jobs}"),
        ]
        figures.append(
            CpuFigure(title=f"orch's own CPU, {jobs} at once", contender=orch.name, tests=tests, target_ms=2.0)
        )
    return Row(
        name="reused-shell",
        title=f"{tests:,} shell tests, reused slots (profile fast)",
        contenders=tuple(contenders),
        comparisons=tuple(comparisons),
        cpu_figures=tuple(figures),
        facts=facts,
    )


def fresh(place: Place) -> Row:
    """300 shell tests in fresh slots."""
    tests = place.size(300, 24)
    project = place.folder / "fresh-shell"
    listed = write_shell_tests(project, tests, place.shell.loops)
    state = place.sub("fresh-state")
    default = Orch("orch", project, state, *_FRESH, tests=tests)
    document = default.warm_up()
    facts = [_about(place)]
    configs = bare_configs(project, document, place.token)
    tuned = _tuned_orch(place, state, tests, facts)
    engine = BareEngine(_socket_of(document))
    bare = _best_bare(engine, configs, facts)
    docker = _best_docker(place, project, listed, configs[0], facts)
    orchs = (Contender(name=default.name, run=default.measure), Contender(name=tuned.name, run=tuned.measure))
    return Row(
        name="fresh-shell",
        title=f"{tests} shell tests, fresh slots",
        contenders=(orchs[0], bare, orchs[1], docker),
        comparisons=(
            Comparison(title="bare API, best parallelism", ours=default.name, theirs=bare.name, target=1.05),
            Comparison(title="the same, -j tuned", ours=tuned.name, theirs=bare.name),
            Comparison(title="docker run --rm", ours=default.name, theirs=docker.name, target=0.55),
            Comparison(title="the same, -j tuned", ours=tuned.name, theirs=docker.name),
            Comparison(title="the limit: bare API", ours=bare.name, theirs=docker.name),
        ),
        cpu_figures=(CpuFigure(title="orch's own CPU", contender=default.name, tests=tests),),
        facts=facts,
    )


def _about(place: Place) -> str:
    return (
        f"a test is a script of 3 forks and a loop, {place.shell.milliseconds:.2f} ms natively (xargs -n1 -P1 sh)"
    )


def _xargs(name: str, words: Sequence[str], project: Path) -> Timing:
    """xargs ends with 123 when a test fails, which is an error here."""
    return run(words, folder=project, keep_output=False).timing(name)


# ---------------------------------------------------------------- the best of several parallelisms, tried once


def _tuned_orch(place: Place, state: Path, tests: int, facts: list[str]) -> Orch:
    """orch at the number of jobs that was best for some of the tests, with the history that there is."""
    few = min(tests, _FEW)
    project = place.folder / "fresh-few" / "fresh-shell"
    write_shell_tests(project, few, place.shell.loops)
    tried_state = place.sub("fresh-few-state")

    def candidate(jobs: int) -> Orch:
        return Orch(f"orch -j {jobs}", project, tried_state, *_FRESH, "-j", str(jobs), tests=few)

    candidate(2).warm_up()
    seconds = {jobs: candidate(jobs).measure().wall_seconds for jobs in place_jobs(place)}
    best = _best(seconds, f"{few} tests by orch -j", facts)
    return Orch(f"orch -j {best}", place.folder / "fresh-shell", state, *_FRESH, "-j", str(best), tests=tests)


def place_jobs(place: Place) -> tuple[int, ...]:
    """Parallelisms to try; two with --quick."""
    return (2, 4) if place.quick else _JOBS


def _best_bare(engine: BareEngine, configs: Sequence[dict[str, Any]], facts: list[str]) -> Contender:
    seconds = {n: run_all(engine, configs[:_FEW], n, "try").wall_seconds for n in _JOBS}
    best = _best(seconds, f"bare API, {len(configs[:_FEW])} containers, at once", facts)
    name = f"bare API, {best} at once"
    return Contender(name=name, run=partial(run_all, engine, configs, best, name))


def _best_docker(place: Place, project: Path, listed: Path, config: dict[str, Any], facts: list[str]) -> Contender:
    seccomp = place.folder / "seccomp.json"
    options = config["HostConfig"]["SecurityOpt"]
    seccomp.write_text(next(o.removeprefix("seccomp=") for o in options if o.startswith("seccomp=")))
    words = docker_run_words(config, place.token, seccomp)
    few = place.folder / "fresh-few.list"
    lines = listed.read_text().splitlines(keepends=True)[:_FEW]
    few.write_text("".join(lines))
    seconds = {n: run(xargs(few, n, *words), folder=project, keep_output=False).wall_seconds for n in (2, 4, 8)}
    best = _best(seconds, f"docker run --rm, {len(lines)} containers, xargs -P", facts)
    name = f"docker run --rm, xargs -P{best}"
    return Contender(name=name, run=partial(_xargs, name, xargs(listed, best, *words), project))


def _best(seconds: dict[int, float], what: str, facts: list[str]) -> int:
    """The fastest; all of them go into the facts."""
    best = min(seconds, key=lambda number: seconds[number])
    tried = ", ".join(f"{number}: {taken:.2f} s" for number, taken in seconds.items())
    facts.append(f"tried once, {what} {tried}; best {best}")
    return best


# ---------------------------------------------------------------- orch's own container settings


def bare_configs(project: Path, document: dict[str, Any], token: str) -> list[dict[str, Any]]:
    """For each test of the project the body of the create call that orch would send, but for the agent, its
    streams, the parent cgroup and the labels.
    """
    settings = load_config(path=None, start=project, env={})
    image = document["run"]["images"]["isolation"]
    context = hardening.ContainerContext(project_root=project, state_dir=None, seccomp=seccomp_text(), counters=())
    configs = []
    for number, test in enumerate(document["tests"]):
        assignment = Assignment(
            run_id="",
            test=Test(id=TestId(path=test["path"]), suite="shell", command=Command(argv=("sh", test["path"]))),
            profile=settings.profiles["fresh"],
            reason="benchmark",
        )
        spec = hardening.container_spec(
            assignment.profile,
            context,
            name=f"orch-bench-{token}-{number}",
            image_id=image,
            labels={LABEL: token},
            streams_dir=None,
            cgroup_parent=None,
        )
        configs.append(container_config(hardening.without_agent(spec, assignment)))
    return configs


def seccomp_text() -> str:
    """The profile that orch ships, as the engine is sent it."""
    from orchestrator.config.shipped import docker_folder

    text = (docker_folder() / "seccomp.json").read_text(encoding="utf-8")
    return json.dumps(json.loads(text), separators=(",", ":"))


def _socket_of(document: dict[str, Any]) -> str:
    address = str(document["run"]["engine"]["address"])
    if not address.startswith("unix://"):
        raise RowError(f"the bare sequence speaks to a local engine only, not to {address.partition(':')[0]}")
    return address.removeprefix("unix://")
