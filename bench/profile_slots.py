"""Where the time of a fresh slot and that of a reused one go: tables from runs of orch in this process.

    PYTHONPATH=. python -m bench.profile_slots [--tests 60] [--jobs 1] [--results FOLDER]

Two sources. The run's own timings, as they are stored: creating, starting, the test, what comes after it, and in
a slot that is used again the gap between one test's end and the next one's start. And every method of the classes
that a test passes through, wrapped while it runs: wall time and this thread's CPU time without what is wrapped
inside it. The wrapping costs about 2 us a call and changes no code of orch; names are found when it starts, so
that a part that is gone or renamed does not stop it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from importlib import import_module
from inspect import isfunction, isgeneratorfunction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.accuracy.machine import describe, load
from bench.overhead.work import calibrate, write_shell_tests
from orchestrator.commands.run import run
from orchestrator.coordinator.options import RunOptions
from orchestrator.engine.docker.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

CLASSES = (
    "orchestrator.engine.slots.slot:Slot",
    "orchestrator.engine.slots.executor:LocalExecutor",
    "orchestrator.engine.slots.executor:SlotLane",
    "orchestrator.engine.lane:SlotLane",
    "orchestrator.engine.metering.slot_meter:SlotMeter",
    "orchestrator.engine.slots.fifos:FifoChannel",
    "orchestrator.coordinator.executor:AttemptRunner",
    "orchestrator.coordinator.run_folder:RunFolder",
    "orchestrator.database.store.store:Database",
)
MODULES = ("orchestrator.coordinator.executor", "orchestrator.engine.slots.executor")
"""Functions that these use, whatever module they come from."""
SHOWN_MS = 0.02
"""Less than that by test is summed up."""


# ---------------------------------------------------------------- the clock around each call


@dataclass(slots=True)
class Step:
    """All calls of one function."""

    calls: int = 0
    wall_seconds: float = 0.0
    """Without what is wrapped inside it."""
    cpu_seconds: float = 0.0
    whole_seconds: list[float] = field(default_factory=list)
    """Of each call, with everything inside it."""


class Tracer:
    """Times wrapped functions, each thread's for itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self.steps: defaultdict[str, Step] = defaultdict(Step)

    def reset(self) -> None:
        """Forget what was timed."""
        with self._lock:
            self.steps.clear()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed as `name`."""

        @wraps(function)
        def timed(*arguments: Any, **keywords: Any) -> Any:
            stack = self._stack()
            inside = [0.0, 0.0]
            stack.append(inside)
            began, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **keywords)
            finally:
                wall, used = time.perf_counter() - began, time.thread_time() - cpu
                stack.pop()
                if stack:
                    stack[-1][0] += wall
                    stack[-1][1] += used
                self._add(name, wall, wall - inside[0], used - inside[1])

        return timed

    def _stack(self) -> list[list[float]]:
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        stack: list[list[float]] = self._local.stack
        return stack

    def _add(self, name: str, whole: float, wall: float, cpu: float) -> None:
        with self._lock:
            step = self.steps[name]
            step.calls += 1
            step.wall_seconds += wall
            step.cpu_seconds += cpu
            step.whole_seconds.append(whole)


def install(tracer: Tracer) -> list[str]:
    """Wrap what there is; names of what there is not."""
    missing = []
    classes: list[type] = [type(open_engine())]
    for name in CLASSES:
        place, _, attribute = name.partition(":")
        try:
            classes.append(getattr(import_module(place), attribute))
        except (ImportError, AttributeError):
            missing.append(name)
    for owner in classes:
        wrap_class(tracer, owner)
    for module in MODULES:
        wrap_module(tracer, import_module(module))
    return missing


def wrap_class(tracer: Tracer, owner: type) -> None:
    """Each plain method of its own."""
    for name, value in list(vars(owner).items()):
        if isfunction(value) and not isgeneratorfunction(value) and not name.startswith("__"):
            setattr(owner, name, tracer.wrap(f"{owner.__name__}.{name}", value))


def wrap_module(tracer: Tracer, module: ModuleType) -> None:
    """Each function of orch's that the module uses by its name."""
    for name, value in list(vars(module).items()):
        if isfunction(value) and not isgeneratorfunction(value) and value.__module__.startswith("orchestrator"):
            setattr(module, name, tracer.wrap(name, value))


# ---------------------------------------------------------------- what the run itself stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Of one attempt, in seconds."""

    container: str
    position: int
    started: float
    """Since the epoch."""
    seconds: dict[str, float]


_PARTS = ("create_seconds", "start_seconds", "duration_seconds", "teardown_seconds")


def stored(document: dict[str, Any]) -> list[Stored]:
    """The attempts of a run.json."""
    return [
        Stored(
            container=(attempt.get("attestation") or {}).get("container_id") or "?",
            position=(attempt.get("slot") or {}).get("position") or 1,
            started=datetime.fromisoformat(attempt["started_at"]).timestamp(),
            seconds={part: attempt[part] for part in _PARTS},
        )
        for test in document["tests"]
        for attempt in test["attempts"]
    ]


def gaps(attempts: Iterable[Stored]) -> list[float]:
    """Seconds between a test's end and the next one's start in the same container."""
    lanes: defaultdict[str, list[Stored]] = defaultdict(list)
    for attempt in attempts:
        if attempt.container != "?":
            lanes[attempt.container].append(attempt)
    found = []
    for lane in lanes.values():
        lane.sort(key=lambda attempt: attempt.started)
        for before, after in pairwise(lane):
            found.append(after.started - before.started - before.seconds["duration_seconds"])
    return found


# ---------------------------------------------------------------- the page


def steps_table(steps: dict[str, Step], tests: int) -> str:
    """Longest first, milliseconds by test."""
    lines = ["| step | calls a test | wall, ms a test | CPU, ms a test | whole call, median ms |"]
    lines.append("|---|--:|--:|--:|--:|")
    rest_wall = rest_cpu = 0.0
    for name, step in sorted(steps.items(), key=lambda item: -item[1].wall_seconds):
        wall, cpu = step.wall_seconds * 1000 / tests, step.cpu_seconds * 1000 / tests
        if wall < SHOWN_MS:
            rest_wall, rest_cpu = rest_wall + wall, rest_cpu + cpu
            continue
        whole = median(step.whole_seconds) * 1000
        lines.append(f"| {name} | {step.calls / tests:.2f} | {wall:.2f} | {cpu:.2f} | {whole:.2f} |")
    lines.append(f"| the rest, each under {SHOWN_MS} ms | | {rest_wall:.2f} | {rest_cpu:.2f} | |")
    return "\n".join(lines)


def stored_table(attempts: Sequence[Stored]) -> str:
    """Medians in milliseconds, of first tests in their slots and of later ones apart."""
    lines = ["| tests | number | " + " | ".join(part.removesuffix("_seconds") for part in _PARTS) + " |"]
    lines.append("|---|--:|" + "--:|" * len(_PARTS))
    for title, first in (("first in their slot", True), ("later in their slot", False)):
        mine = [a for a in attempts if (a.position == 1) is first]
        if mine:
            figures = [f"{median(a.seconds[part] for a in mine) * 1000:.2f} ms" for part in _PARTS]
            lines.append(f"| {title} | {len(mine)} | " + " | ".join(figures) + " |")
    between = gaps(attempts)
    if between:
        most = (
            f"{median(between) * 1000:.2f} ms, lowest {min(between) * 1000:.2f}, highest {max(between) * 1000:.2f}"
        )
        lines.append(f"\nBetween a test's end and the next one's start in the same container: median {most}.")
    return "\n".join(lines)


def measure(project: Path, profile: str, jobs: int, tracer: Tracer) -> tuple[float, dict[str, Any]]:
    """One run of a project, warmed up; its seconds and its run.json."""
    options = RunOptions(profile=profile, jobs=str(jobs), show_progress="none", offline_base=True)
    state = project / ".orch"
    for _ in range(2):
        shutil.rmtree(state / "runs", ignore_errors=True)
        tracer.reset()
        began = time.monotonic()
        with chdir(project), redirect_stdout(io.StringIO()):
            code = run(options)
        seconds = time.monotonic() - began
        if code != 0:
            raise SystemExit(f"orch run ended with {code}")
    (path,) = (state / "runs").glob("*/run.json")
    document: dict[str, Any] = json.loads(path.read_bytes())
    return seconds, document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--results", type=Path, help="write slots-DATE.md there too")
    arguments = parser.parse_args()
    tracer = Tracer()
    missing = install(tracer)
    began = load()
    with tempfile.TemporaryDirectory(prefix="orch-slots-") as name:
        folder = Path(name)
        shell = calibrate(folder / "calibration")
        parts = [f"# Where a slot's time goes, {began['at'][:10]}"]
        parts.append(setting(arguments.tests, arguments.jobs, shell.milliseconds, began["load"][0]))
        for title, profile in (("Fresh slots", "fresh"), ("Reused slots", "fast")):
            project = folder / profile
            write_shell_tests(project, arguments.tests, shell.loops)
            parts.append(f"## {title}")
            parts += section(project, profile, arguments.jobs, arguments.tests, tracer)
    if missing:
        parts.append("Not there, so not timed: " + ", ".join(missing))
    page = "\n\n".join(parts) + "\n"
    print(page)
    if arguments.results is not None:
        arguments.results.mkdir(parents=True, exist_ok=True)
        (arguments.results / f"slots-{began['at'][:10]}.md").write_text(page)


def setting(tests: int, jobs: int, milliseconds: float, before: float) -> str:
    """What was run, on what."""
    machine = describe()
    lines = [
        f"- Machine: {machine['processor']}, {machine['cpus']:g} CPUs, Linux {machine['kernel']}",
        f"- {tests} shell tests of {milliseconds:.1f} ms natively, {jobs} at once; load average {before:g} before",
        "- Wall and CPU are each step's own, without the steps inside it; those of all threads together.",
    ]
    return "\n".join(lines)


def section(project: Path, profile: str, jobs: int, tests: int, tracer: Tracer) -> list[str]:
    """A profile's figures."""
    seconds, document = measure(project, profile, jobs, tracer)
    each = seconds * 1000 / tests
    said = f"{seconds:.2f} s for all, {each:.1f} ms a test; load average {os.getloadavg()[0]:.2f} after."
    return [said, stored_table(stored(document)), steps_table(tracer.steps, tests)]


if __name__ == "__main__":
    main()
