"""Where a fresh slot's time goes, on this engine; the tables of docs/design/fresh-slots.md.

    PYTHONPATH=. python -m bench.fresh settings [ROUNDS]         what each setting costs, against ours
    PYTHONPATH=. python -m bench.fresh flight [COUNT] [ROUNDS]   how many at once the engine can use
    PYTHONPATH=. python -m bench.fresh pool [COUNT] [ROUNDS]     the pool against the bare sequence

Interleaved rounds; medians, and the least in brackets. Needs orch/test-isolation:latest. Removes what it made.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import tempfile
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.fresh.bare import Bare, busy_seconds, in_threads
from bench.fresh.pooled import Pooled
from orchestrator.engine.docker.engine import HOSTS, open_engine
from orchestrator.engine.docker.messages import container_config
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.engine.slots.prestarted_slots import PrestartedSlots
from orchestrator.measure import cgroups
from tests.support.handmade import make_assignment

if TYPE_CHECKING:
    from collections.abc import Callable

    Config = dict[str, Any]

IMAGE = "orch/test-isolation:latest"
TEST = ("sh", "-c", "sleep 0.005; echo ok")
SECCOMP = Path(__file__).resolve().parents[2] / "docker" / "seccomp.json"


def _host(**changes: Any) -> Callable[[Config], None]:
    return lambda config: config["HostConfig"].update(changes)


def _network(mode: str) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        config["NetworkDisabled"] = False
        config["HostConfig"]["NetworkMode"] = mode
        config["HostConfig"]["Mounts"].pop()  # /etc/hosts, which the engine then writes

    return change


def _seccomp(text: str | None) -> Callable[[Config], None]:
    options = ["no-new-privileges"] + ([] if text is None else [f"seccomp={text}"])
    return _host(SecurityOpt=options)


def _no_limits(config: Config) -> None:
    for name in ("Memory", "MemorySwap", "NanoCpus", "PidsLimit"):
        del config["HostConfig"][name]


def _own_parent(config: Config) -> None:
    config["HostConfig"]["CgroupParent"] = f"/orch-bench-{uuid.uuid4().hex[:8]}"


def _endless(config: Config) -> None:
    config["Cmd"] = ["-c", "sleep 60"]


SMALL_SECCOMP = json.dumps(
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}
)
SETTINGS: dict[str, Callable[[Config], None]] = {
    "ours": lambda _: None,
    "ours again": lambda _: None,
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


def _both(values: list[float]) -> str:
    """Median and, as what other work on the machine cannot have added to, the least."""
    return f"{statistics.median(values):5.0f} ({min(values):4.0f})"


def compare_settings(config: Config, rounds: int) -> None:
    runs = {name: Bare() for name in (*SETTINGS, "no attach")}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, bare in runs.items():
            changed = copy.deepcopy(config)
            SETTINGS.get(name, SETTINGS["ours"])(changed)
            before = busy_seconds()
            running = changed["Cmd"] != config["Cmd"]
            bare.one(changed, attach=name != "no attach" and not running, wait=not running)
            cpu[name].append((busy_seconds() - before) * 1000)
            parent = changed["HostConfig"]["CgroupParent"]
            paths = cgroups.locate(parent, None) if parent else None
            if paths is not None:
                cgroups.remove(paths)
    for name, bare in runs.items():
        parts = "  ".join(f"{phase} {_both(values)}" for phase, values in bare.phases.items())
        print(f"{name:36} {parts}  cpu {_both(cpu[name])}")


def compare_flight(config: Config, count: int, rounds: int) -> None:
    found: dict[int, list[tuple[float, float]]] = {}
    bare = Bare()
    for _ in range(rounds):
        for threads in (1, 2, 3, 4, 6, 8):
            found.setdefault(threads, []).append(in_threads(lambda _: bare.one(config), count, threads))
    for threads, times in found.items():
        wall, cpu = (_both([pair[part] for pair in times]) for part in (0, 1))
        print(f"{threads} at once: {wall} ms a container, {cpu} ms CPU")


def compare_pool(config: Config, pooled: Pooled, count: int, rounds: int) -> None:
    bare = Bare()
    naive = copy.deepcopy(config)
    _network("none")(naive)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for threads in (4,):
            name = f"bare, network none, {threads} at once"
            found.setdefault(name, []).append(in_threads(lambda _: bare.one(naive), count, threads))
            name = f"bare, same settings, {threads} at once"
            found.setdefault(name, []).append(in_threads(lambda _: bare.one(config), count, threads))
        for lanes, ahead, starters, removers in ((2, 3, 3, 1), (3, 3, 3, 2), (4, 4, 4, 2)):
            name = f"pool: lanes {lanes} ahead {ahead} starters {starters} removers {removers}"
            pool = PrestartedSlots(
                pooled.open, pooled.close, max_ahead=ahead, starters=starters, removers=removers
            )
            found.setdefault(name, []).append(_drive(pooled, pool, count, lanes))
    for name, times in found.items():
        wall, cpu = (_both([pair[part] for pair in times]) for part in (0, 1))
        print(f"{name:48} {wall} ms a container, {cpu} ms CPU")


def _drive(pooled: Pooled, pool: PrestartedSlots[Any], count: int, lanes: int) -> tuple[float, float]:
    line = [make_assignment(*TEST, path=f"{uuid.uuid4()}", timeout_seconds=60.0) for _ in range(count)]

    def work(number: int) -> None:
        pool.prepare(line[number + 1 : number + 9])
        pooled.run(pool, line[number])
        if number == count - 1:
            pool.close()

    try:
        return in_threads(work, count, lanes)
    finally:
        pool.close()


def main() -> None:
    what, *numbers = sys.argv[1:]
    engine = open_engine()
    image = engine.find_image(IMAGE)
    assert image is not None, f"{IMAGE} is missing: orch build"
    image = prepared_image(engine, image)
    with tempfile.TemporaryDirectory(prefix="orch-bench-") as place:
        folder, project = Path(place), Path(place) / "project"
        (project / ".orch").mkdir(parents=True)
        (folder / "streams").mkdir()
        (folder / "hosts").write_text(HOSTS)
        pooled = Pooled(engine, image, folder, project, SECCOMP.read_text())
        spec = pooled.spec(make_assignment(*TEST), folder / "streams")
        config = container_config(spec, hosts_file=folder / "hosts")
        config["Cmd"], config["OpenStdin"], config["AttachStdin"] = list(TEST[1:]), False, False
        modes = {
            "settings": partial(compare_settings, config),
            "flight": partial(compare_flight, config),
            "pool": partial(compare_pool, config, pooled),
        }
        modes[what](*(int(number) for number in numbers))
    engine.close()


main()
