"""How much longer tests take with orch than without it, as a table of ratios.

Rows: reused-shell, fresh-shell, pytest-files, new-project, real, makespan. Writes overhead-DATE.md and .json into
--results after each row, so that an interrupted run keeps the rows it has. The exit code is 1 if a row failed
because a test did not pass or is missing. Needs a local engine, orch's images or a way to build them, and for
pytest a package index.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bare_container import LABEL, BareContainerError
from bench.machine import describe, load
from bench.overhead.comparing import RowError, judge, judge_cpu, turns
from bench.overhead.rows import makespan, pytests, shell
from bench.overhead.table import RowResult, as_json, markdown
from bench.overhead.work import settle
from bench.overhead.workspace import Workspace
from orchestrator import __version__
from orchestrator.engine.docker.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.overhead.comparing import Judged, Row, Timing

ROWS: dict[str, Callable[[Workspace], Row]] = {
    "reused-shell": shell.reused,
    "fresh-shell": shell.fresh,
    "pytest-files": pytests.small_files,
    "new-project": pytests.new_project,
    "real": pytests.real_projects,
}
NAMES = (*ROWS, makespan.NAME)


def measure(name: str, workspace: Workspace, rounds: int) -> RowResult:
    """Measure one row; a failure becomes part of its result."""
    before = [round(n, 2) for n in os.getloadavg()]
    say(f"{name}: getting ready, load {before[0]}")
    if name == makespan.NAME:
        return _makespan(before)
    try:
        row = ROWS[name](workspace)
    except (RowError, BareContainerError) as error:
        return RowResult(name=name, title="", load_before=before, failure=str(error))
    result = RowResult(name=name, title=row.title, load_before=before, facts=row.facts)
    try:
        result.timings = take(row, rounds)
        result.judged = judged(row, result.timings, quick=workspace.quick)
    except (RowError, BareContainerError) as error:
        result.failure = str(error)
    result.facts = [*row.facts, *slots_told(result.timings)]
    return result


def _makespan(before: Sequence[float]) -> RowResult:
    return RowResult(name=makespan.NAME, title=makespan.TITLE, load_before=before, judged=makespan.measure())


def take(row: Row, rounds: int) -> list[Timing]:
    """Run all contenders in each round, in alternating order, and return their timings."""
    taken: list[Timing] = []
    for number in range(rounds):
        for contender in turns(row.contenders, number):
            settle()
            timing = replace(contender.run(), round=number)
            taken.append(timing)
            done = f"{row.name} {number + 1}/{rounds} {timing.contender}"
            say(f"{done}: {timing.wall_seconds:.2f} s, load {timing.load:.2f}")
    return taken


def judged(row: Row, timings: Sequence[Timing], *, quick: bool) -> list[Judged]:
    """Return each line of the row. With --quick no target is judged, because the work is smaller."""
    lines = [judge(comparison, timings) for comparison in row.comparisons]
    lines += [judge_cpu(figure, timings) for figure in row.cpu_figures]
    return [replace(line, met=None) for line in lines] if quick else lines


def slots_told(timings: Sequence[Timing]) -> list[str]:
    """Return a sentence for each contender: how its tests ran in the last round."""
    last = {t.contender: t.notes for t in timings if "containers" in t.notes}
    return [
        f"{name}: {n['containers']} containers, {n['reused']} tests in a slot used before, {n['forked']} forked,"
        f" {n['run_again']} run again"
        for name, n in last.items()
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def words_of(text: str) -> list[str]:
    """Parse a comma-separated list of row names. Raises ArgumentTypeError for an unknown one."""
    names = text.split(",")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no row is called {unknown[0]!r}; rows: {', '.join(NAMES)}")
    return names


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=words_of, default=list(NAMES), metavar="NAME,...")
    parser.add_argument("--quick", action="store_true", help="few tests and two rounds, to see whether it works")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that containers are removed
    rounds = min(arguments.rounds, 2) if arguments.quick else arguments.rounds
    document: dict[str, Any] = {
        "schema": 1,
        "began": load(),
        "rounds": rounds,
        "quick": arguments.quick,
        "machine": describe(),
        "engine": engine_described(),
        "orch": __version__,
    }
    results: list[RowResult] = []
    with tempfile.TemporaryDirectory(prefix="orch-overhead-") as folder:
        workspace = Workspace(folder=Path(folder), quick=arguments.quick)
        try:
            for name in arguments.rows:
                results.append(measure(name, workspace, rounds))
                write(arguments.results, {**document, "ended": load()}, results)
        finally:
            sweep(workspace.token)
    failed = [f"FAILED {result.name}: {result.failure}" for result in results if result.failure is not None]
    say("\n".join(failed))
    return 1 if failed else 0


def sweep(token: str) -> None:
    """Remove the containers that an interrupted turn has left."""
    engine = open_engine()
    for found in engine.find({LABEL: token}):
        engine.remove_object(found)


def engine_described() -> dict[str, str | None]:
    """Return the engine's properties without its address, which may name a host."""
    info = open_engine().info
    return {
        "name": info.name,
        "version": info.version,
        "cgroup_driver": info.cgroup_driver,
        "storage_driver": info.storage_driver,
    }


def write(folder: Path, document: dict[str, Any], results: Sequence[RowResult]) -> None:
    """Write both files, named by the date; those of --quick have names of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "-quick" if document["quick"] else ""
    path = folder / f"overhead-{document['began']['at'][:10]}{suffix}.md"
    path.write_text(markdown(document, results))
    path.with_suffix(".json").write_text(as_json(document, results))
    say(str(path))
