"""Where the time of a fresh container goes; the tables of docs/design/engine/fresh-slots.md.

settings     what each setting of a container costs, compared with orch's settings
concurrency  how many containers at once the engine can use
pool         orch's executor (containers started ahead of their tests) compared with the bare API calls

Rounds are interleaved. Figures are medians, with the lowest in parentheses, in milliseconds for each container.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bare_container import LABEL, BareEngine, busy_seconds, run_many, socket_path
from bench.environment import BenchEnvironment, bench_environment, run_in_lane
from orchestrator.engine.docker.engine import HOSTS
from orchestrator.engine.docker.messages import container_config
from orchestrator.measure import cgroups
from orchestrator.model.tests import Assignment, Command, Test, TestId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Settings = dict[str, Any]

TEST = ("sh", "-c", "sleep 0.005; echo ok")
JOBS = 2


def _host(**changes: Any) -> Callable[[Settings], None]:
    return lambda config: config["HostConfig"].update(changes)


def _network(mode: str) -> Callable[[Settings], None]:
    def change(config: Settings) -> None:
        config["NetworkDisabled"] = False
        config["HostConfig"]["NetworkMode"] = mode
        config["HostConfig"]["Mounts"].pop()  # /etc/hosts, which the engine then writes

    return change


def _seccomp(text: str | None) -> Callable[[Settings], None]:
    options = ["no-new-privileges"] + ([] if text is None else [f"seccomp={text}"])
    return _host(SecurityOpt=options)


def _no_limits(config: Settings) -> None:
    for name in ("Memory", "MemorySwap", "NanoCpus", "PidsLimit"):
        del config["HostConfig"][name]


def _own_parent(config: Settings) -> None:
    config["HostConfig"]["CgroupParent"] = f"/orch-bench-{uuid.uuid4().hex[:8]}"


def _endless(config: Settings) -> None:
    config["Cmd"] = ["-c", "sleep 60"]


SMALL_SECCOMP = json.dumps(
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}
)
SETTINGS: dict[str, Callable[[Settings], None]] = {
    "ours": lambda _: None,
    "ours again": lambda _: None,
    "without attach": lambda _: None,
    "network none, set up by the engine": _network("none"),
    "network bridge": _network("bridge"),
    "without /etc/hosts mounted": lambda config: config["HostConfig"]["Mounts"].pop(),
    "log driver json-file": _host(LogConfig={"Type": "json-file", "Config": {}}),
    "seccomp: the engine's default": _seccomp(None),
    "seccomp: one rule": _seccomp(SMALL_SECCOMP),
    "seccomp: unconfined": _seccomp("unconfined"),
    "no tmpfs": _host(Tmpfs={}),
    "no bind mounts": _host(Mounts=[], Tmpfs={}),
    "cgroup parent of its own": _own_parent,
    "no limits": _no_limits,
    "init": _host(Init=True),
    "the image's health check": lambda config: config.pop("Healthcheck"),
    "no IPC namespace of its own": _host(IpcMode="shareable"),
    "removed while it runs": _endless,
    "writable root": _host(ReadonlyRootfs=False),
}


def _figures(milliseconds: Sequence[float]) -> str:
    """Return the median and, as the figure that other work on the machine has disturbed least, the lowest."""
    return f"{statistics.median(milliseconds):5.0f} ({min(milliseconds):4.0f})"


def compare_settings(bare: BareEngine, config: Settings, rounds: int) -> None:
    """Print, for each changed setting, the time of each phase and the CPU time of the machine."""
    phases: dict[str, defaultdict[str, list[float]]] = {name: defaultdict(list) for name in SETTINGS}
    for _ in range(rounds):
        for name, change in SETTINGS.items():
            changed = copy.deepcopy(config)
            change(changed)
            before = busy_seconds()
            endless = changed["Cmd"] != config["Cmd"]
            ran = bare.run(changed, attach=name != "without attach" and not endless, wait=not endless)
            found = {**ran.phase_seconds, "total": ran.seconds, "cpu": busy_seconds() - before}
            for phase, seconds in found.items():
                phases[name][phase].append(seconds * 1000)
            parent = changed["HostConfig"]["CgroupParent"]
            paths = cgroups.locate(parent, None) if parent else None
            if paths is not None:
                cgroups.remove(paths)
    for name, by_phase in phases.items():
        print(f"{name:36} " + "  ".join(f"{phase} {_figures(values)}" for phase, values in by_phase.items()))


def compare_concurrency(bare: BareEngine, config: Settings, count: int, rounds: int) -> None:
    """Print the wall and CPU time of a container by the number of containers at once."""
    found: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for threads in (1, 2, 3, 4, 6, 8):
            found[threads].append(run_many(lambda _: bare.run(config), count, threads))
    for threads, times in found.items():
        _print_times(f"{threads} at once", times)


def compare_pool(
    bare: BareEngine, config: Settings, environment: BenchEnvironment, count: int, rounds: int
) -> None:
    """Print the wall and CPU time of a container by the bare calls and by orch's executor."""
    naive = copy.deepcopy(config)
    _network("none")(naive)
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for name, settings in (("network none", naive), ("same settings", config)):
            found[f"bare, {name}, 4 at once"].append(run_many(lambda _, c=settings: bare.run(c), count, 4))  # type: ignore[misc]  # bound here
        for jobs in (JOBS, 4):
            found[f"orch's executor, {jobs} jobs"].append(_through_executor(environment, count, jobs))
    for name, times in found.items():
        _print_times(name, times)


def _print_times(name: str, times: Sequence[tuple[float, float]]) -> None:
    wall, cpu = (_figures([pair[part] for pair in times]) for part in (0, 1))
    print(f"{name:36} {wall} ms a container, {cpu} ms CPU")


def _through_executor(environment: BenchEnvironment, count: int, jobs: int) -> tuple[float, float]:
    """Run tests in fresh containers by orch's executor; return wall and CPU milliseconds of each."""
    executor = environment.executor.sibling()
    tests = [_assignment(environment, number) for number in range(count)]

    def work(share: list[Assignment]) -> None:
        with closing(executor.lane()) as lane, tempfile.TemporaryDirectory() as folder:
            for number, test in enumerate(share):
                executor.prepare(share[number + 1 : number + 5])
                run_in_lane(lane, [test], Path(folder))

    began, busy = time.monotonic(), busy_seconds()
    try:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, [tests[job::jobs] for job in range(jobs)]))
    finally:
        executor.close()
    return (time.monotonic() - began) * 1000 / count, (busy_seconds() - busy) * 1000 / count


def _assignment(environment: BenchEnvironment, number: int) -> Assignment:
    return Assignment(
        run_id=environment.run_id,
        test=Test(id=TestId(path=f"{number}-{uuid.uuid4().hex}"), suite="shell", command=Command(argv=TEST)),
        profile=environment.config.profiles["fresh"],
        reason="benchmark",
    )


def bare_settings(environment: BenchEnvironment, folder: Path, token: str) -> Settings:
    """Return the create call that orch sends, with the test in place of the agent."""
    (folder / "hosts").write_text(HOSTS)
    (folder / "streams").mkdir()
    assignment = _assignment(environment, 0)
    spec = environment.executor.slots.spec(assignment, streams_dir=folder / "streams", cgroup_parent=None)
    config = container_config(spec, hosts_file=folder / "hosts")
    config["Cmd"], config["OpenStdin"], config["AttachStdin"] = list(TEST[1:]), False, False
    config["Labels"] = {LABEL: token}
    return config


def main(argv: Sequence[str]) -> int:
    """Run one comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("settings", "concurrency", "pool"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=24, help="containers in a round (concurrency, pool)")
    arguments = parser.parse_args(argv)
    token = uuid.uuid4().hex[:12]
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as name:
        folder, project = Path(name), Path(name) / "project"
        project.mkdir()
        (project / "profiles.yaml").write_text("version: 1\nprofiles:\n  fresh: {inherits: fast, reuse: 1}\n")
        with bench_environment(project) as environment:
            bare = BareEngine(socket_path(environment.engine.info.address))
            config = bare_settings(environment, folder, token)
            if arguments.what == "settings":
                compare_settings(bare, config, arguments.rounds)
            elif arguments.what == "concurrency":
                compare_concurrency(bare, config, arguments.count, arguments.rounds)
            else:
                compare_pool(bare, config, environment, arguments.count, arguments.rounds)
    return 0
