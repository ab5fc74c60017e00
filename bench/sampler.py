"""CPU seconds that orch's sampler uses in each second, with 64 slots. The goal is under 0.01 (1 % of one core).

Creates cgroups for the slots if it has the right to, and removes them; otherwise reads the root's files
repeatedly.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.measure import processes
from orchestrator.measure.cgroup_reader import SeriesReader
from orchestrator.measure.cgroups import CgroupPaths, locate, process_ids, read, remove
from orchestrator.measure.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.measure.processes import ProcessCount

ROOT = Path("/sys/fs/cgroup")


def make_slots(name: str, slots: int) -> CgroupPaths | None:
    """Create a parent with a cgroup for each slot in every hierarchy; return None without the right to."""
    try:
        for hierarchy in (
            {ROOT} if (ROOT / "cgroup.controllers").exists() else {p.resolve() for p in ROOT.iterdir()}
        ):
            for slot in range(slots):
                (hierarchy / name / str(slot)).mkdir(parents=True)
    except OSError as error:
        print(f"cannot create cgroups: {error}", file=sys.stderr)
    return locate(name, None)


def populate(name: str, slots: int) -> list[subprocess.Popen[bytes]]:
    """Start a process in each slot, so that there is something to count; `costs` ends them."""
    started = []
    for slot in range(slots):
        process = subprocess.Popen(["sleep", "600"])
        started.append(process)
        for folder in (locate(f"{name}/{slot}", None) or CgroupPaths(2, ())).folders:
            with contextlib.suppress(OSError):  # cpuset takes no process before it has CPUs
                (folder / "cgroup.procs").write_text(str(process.pid))
    return started


def measure(
    title: str, slots: list[CgroupPaths], seconds: float, *, age: float = 0.0, kept_open: bool, counted: bool
) -> str:
    """Return a sentence with the cost for tests of this age, the creation of the samples at the end included."""
    with Sampler(interval_seconds=0.1) as sampler:
        for key, paths in enumerate(slots):
            sampler.add(
                str(key),
                SeriesReader(paths) if kept_open else partial(read, paths, series=True),
                partial(count_processes, paths) if counted else None,
            )
        time.sleep(age)
        before, started = time.process_time(), time.monotonic()
        time.sleep(seconds)
        reading, passed = time.process_time() - before, time.monotonic() - started
        taken = [len(sampler.take(str(key))) for key in range(len(slots))]
        making = time.process_time() - before - reading
        cost = reading / passed + making / (age + passed)
    return f"{title}: {cost:.4f} CPU s per s, {len(slots)} slots, {min(taken)} to {max(taken)} samples each"


def count_processes(paths: CgroupPaths) -> ProcessCount:
    return processes.count(process_ids(paths))


def costs(seconds: float, slots: int) -> list[str]:
    """Return the cost as in runs, with and without counting processes, and without keeping files open."""
    name = f"orch-bench-{os.getpid()}"
    parent = make_slots(name, slots)
    inside: list[subprocess.Popen[bytes]] = []
    try:
        found = [locate(f"{name}/{slot}", None) for slot in range(slots)]
        paths = [path for path in found if path is not None]
        if len(paths) < slots:
            paths = [CgroupPaths(2 if (ROOT / "cgroup.controllers").exists() else 1, (ROOT,))] * slots
        else:
            inside = populate(name, slots)
        kept = partial(measure, slots=paths, seconds=seconds, kept_open=True)
        return [
            kept("tests 10 s old, kernel's counters", age=10.0, counted=False),
            kept("tests 10 s old, processes and open files too", age=10.0, counted=True),
            kept("tests that all start at once, the same", counted=True),
            measure("counters, files opened each time", paths, seconds, kept_open=False, counted=False),
        ]
    finally:
        for process in inside:
            process.kill()
            process.wait()
        if parent is not None:
            remove(parent)


def main(argv: Sequence[str]) -> int:
    """Print the cost of each way to read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--slots", type=int, default=64)
    arguments = parser.parse_args(argv)
    print("\n".join(costs(seconds=arguments.seconds, slots=arguments.slots)))
    return 0
