"""The rows of shell tests: reused slots compared with xargs, fresh slots compared with the bare engine."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.bare_container import LABEL, BareEngine, socket_path
from bench.overhead.comparing import Comparison, Contender, CpuFigure, Row, RowError, Timing
from bench.overhead.process import run
from bench.overhead.under_orch import Orch, executor_alone
from bench.overhead.work import write_shell_tests, xargs
from orchestrator.config.loader import load_config
from orchestrator.engine.docker.messages import container_config
from orchestrator.engine.isolation import hardening
from orchestrator.model.tests import Assignment, Command, Test, TestId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.overhead.workspace import Workspace

_JOBS = (1, 2, 3, 4, 6, 8)
_FEW = 48
"""The number of containers with which the best parallelism is determined."""
_FRESH = ("--profile", "fresh")


def reused(workspace: Workspace) -> Row:
    """Return the row of 4,067 shell tests in reused slots, one and two at once.

    "executor alone" is what orch would take if its start, scheduler, verdicts, events and database took no time.
    """
    tests = workspace.size(4067, 60)
    shell = workspace.shell
    project = workspace.folder / "reused-shell"
    listed = write_shell_tests(project, tests, shell.loops)
    contenders, comparisons, figures, facts = [], [], [], [_about(workspace)]
    for jobs in (1, 2):
        orch = Orch(
            f"orch -j {jobs}", project, workspace.sub(f"reused-state-{jobs}"), "-j", str(jobs), tests=tests
        )
        orch.warm_up()
        bare = partial(_xargs, f"xargs -P{jobs}", xargs(listed, jobs, "sh"), project)
        executor = f"executor alone, {jobs} at once"
        contenders += [
            Contender(name=orch.name, run=orch.measure),
            Contender(name=f"xargs -P{jobs}", run=bare),
            Contender(name=executor, run=partial(executor_alone, executor, project, "fast", jobs)),
        ]
        comparisons += [
            Comparison(title=f"{jobs} at once", ours=orch.name, theirs=f"xargs -P{jobs}", target=1.05),
            Comparison(title="the limit: executor alone", ours=executor, theirs=f"xargs -P{jobs}"),
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


def fresh(workspace: Workspace) -> Row:
    """Return the row of 300 shell tests in fresh slots."""
    tests = workspace.size(300, 24)
    project = workspace.folder / "fresh-shell"
    listed = write_shell_tests(project, tests, workspace.shell.loops)
    state = workspace.sub("fresh-state")
    default = Orch("orch", project, state, *_FRESH, tests=tests)
    document = default.warm_up()
    facts = [_about(workspace)]
    configs = bare_configs(project, document, workspace.token)
    tuned = _tuned_orch(workspace, state, tests, facts)
    engine = BareEngine(socket_path(document["run"]["engine"]["address"]))
    bare = _best_bare(engine, configs, facts)
    docker = _best_docker(workspace, project, listed, configs[0], facts)
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


def _about(workspace: Workspace) -> str:
    milliseconds = workspace.shell.milliseconds
    return f"a test is a script of 3 forks and a loop, {milliseconds:.2f} ms natively (xargs -n1 -P1 sh)"


def _xargs(name: str, words: Sequence[str], project: Path) -> Timing:
    """Run xargs; it exits with 123 if a test fails, which raises RowError."""
    return run(words, folder=project, keep_output=False).timing(name)


# ---------------------------------------------------------------- the best of several parallelisms, tried once


def _tuned_orch(workspace: Workspace, state: Path, tests: int, facts: list[str]) -> Orch:
    """Return orch with the number of jobs that was fastest for some of the tests."""
    few = min(tests, _FEW)
    project = workspace.folder / "fresh-few" / "fresh-shell"
    write_shell_tests(project, few, workspace.shell.loops)
    tried_state = workspace.sub("fresh-few-state")

    def candidate(jobs: int) -> Orch:
        return Orch(f"orch -j {jobs}", project, tried_state, *_FRESH, "-j", str(jobs), tests=few)

    candidate(2).warm_up()
    seconds = {jobs: candidate(jobs).measure().wall_seconds for jobs in jobs_to_try(workspace)}
    best = _best(seconds, f"{few} tests by orch -j", facts)
    return Orch(f"orch -j {best}", workspace.folder / "fresh-shell", state, *_FRESH, "-j", str(best), tests=tests)


def jobs_to_try(workspace: Workspace) -> tuple[int, ...]:
    """Return the numbers of jobs to try; two with --quick."""
    return (2, 4) if workspace.quick else _JOBS


def _best_bare(engine: BareEngine, configs: Sequence[dict[str, Any]], facts: list[str]) -> Contender:
    seconds = {n: run_all(engine, configs[:_FEW], n, "try").wall_seconds for n in _JOBS}
    best = _best(seconds, f"bare API, {len(configs[:_FEW])} containers, at once", facts)
    name = f"bare API, {best} at once"
    return Contender(name=name, run=partial(run_all, engine, configs, best, name))


def _best_docker(
    workspace: Workspace, project: Path, listed: Path, config: dict[str, Any], facts: list[str]
) -> Contender:
    seccomp = workspace.folder / "seccomp.json"
    options = config["HostConfig"]["SecurityOpt"]
    seccomp.write_text(next(o.removeprefix("seccomp=") for o in options if o.startswith("seccomp=")))
    words = docker_run_words(config, workspace.token, seccomp)
    few = workspace.folder / "fresh-few.list"
    lines = listed.read_text().splitlines(keepends=True)[:_FEW]
    few.write_text("".join(lines))
    seconds = {n: run(xargs(few, n, *words), folder=project, keep_output=False).wall_seconds for n in (2, 4, 8)}
    best = _best(seconds, f"docker run --rm, {len(lines)} containers, xargs -P", facts)
    name = f"docker run --rm, xargs -P{best}"
    return Contender(name=name, run=partial(_xargs, name, xargs(listed, best, *words), project))


def _best(seconds: dict[int, float], what: str, facts: list[str]) -> int:
    """Return the fastest number, and add all of them to the facts."""
    best = min(seconds, key=lambda number: seconds[number])
    tried = ", ".join(f"{number}: {taken:.2f} s" for number, taken in seconds.items())
    facts.append(f"tried once, {what} {tried}; best {best}")
    return best


# ---------------------------------------------------------------- orch's own container settings


def bare_configs(project: Path, document: dict[str, Any], token: str) -> list[dict[str, Any]]:
    """Return, for each test of the project, the body of orch's create call without agent, streams and parent
    cgroup.
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
    """Return the seccomp profile of orch as it is sent to the engine."""
    from orchestrator.config.shipped import docker_folder

    text = (docker_folder() / "seccomp.json").read_text(encoding="utf-8")
    return json.dumps(json.loads(text), separators=(",", ":"))


# ---------------------------------------------------------------- the same containers without orch


def run_all(engine: BareEngine, configs: Sequence[Mapping[str, Any]], at_once: int, contender: str) -> Timing:
    """Run all containers by the bare API calls. Raises RowError if one did not do its work."""
    load = os.getloadavg()[0]
    before = time.process_time()
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        runs = list(pool.map(engine.run, configs))
    wall, cpu = time.monotonic() - began, time.process_time() - before
    wrong = next((run for run in runs if run.exit_code != 0 or b"ok " not in run.output), None)
    if wrong is not None:
        raise RowError(f"a bare container exited with {wrong.exit_code} and printed {wrong.output[-200:]!r}")
    notes = {"at_once": at_once, "median_container_seconds": median(run.seconds for run in runs)}
    return Timing(contender=contender, round=0, wall_seconds=wall, cpu_seconds=cpu, load=load, notes=notes)


def docker_run_words(config: Mapping[str, Any], token: str, seccomp: Path) -> list[str]:
    """Return the words of `docker run --rm` with the same settings; the test's path follows."""
    host = config["HostConfig"]
    mount = host["Mounts"][0]
    words = ["docker", "run", "--rm", f"--label={LABEL}={token}", f"--user={config['User']}"]
    words += [f"--workdir={config['WorkingDir']}", "--read-only", f"--network={host['NetworkMode']}"]
    words += [f"--memory={host['Memory']}", f"--memory-swap={host['MemorySwap']}"]
    words += [f"--cpus={host['NanoCpus'] / 1e9:g}", f"--pids-limit={host['PidsLimit']}"]
    words += [f"--shm-size={host['ShmSize']}", "--ipc=private", "--cap-drop=ALL"]
    words += ["--security-opt=no-new-privileges", f"--security-opt=seccomp={seccomp}", "--no-healthcheck"]
    words += [f"--log-driver={host['LogConfig']['Type']}", f"--hostname={config['Hostname']}"]
    words += [f"--ulimit={u['Name']}={u['Soft']}:{u['Hard']}" for u in host["Ulimits"]]
    words += [f"--tmpfs={place}:{options}" for place, options in host["Tmpfs"].items()]
    words += [f"--volume={mount['Source']}:{mount['Target']}:ro"]
    words += [f"--env={variable}" for variable in config["Env"]]
    return [*words, "--entrypoint=sh", config["Image"]]
