"""What orch costs beside running the same work without it: the table of issue 4.

    PYTHONPATH=. python -m bench.overhead [--rounds 5] [--rows NAME,...] [--quick]

Rows: reused-shell, fresh-shell, pytest-files, real, makespan. Writes overhead-DATE.md and .json into --results,
after each row, so that a run that is cut short keeps what it has. Ends with 1 where a row failed: a test of it
did not pass, or one is missing. Needs a local engine, orch's images or a way to build them, and for the rows of
pytest a package index that pip reaches.
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

from bench.accuracy.machine import describe, load
from bench.overhead.bare import LABEL
from bench.overhead.comparing import RowError, judge, judge_cpu, turns
from bench.overhead.place import Place
from bench.overhead.rows import makespan, pytests, shell
from bench.overhead.table import RowResult, as_json, markdown
from bench.overhead.work import settle
from orchestrator import __version__
from orchestrator.engine.docker.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.overhead.comparing import Judged, Row, Timing

ROWS: dict[str, Callable[[Place], Row]] = {
    "reused-shell": shell.reused,
    "fresh-shell": shell.fresh,
    "pytest-files": pytests.small_files,
    "real": pytests.real_projects,
}
NAMES = (*ROWS, makespan.NAME)


def measure(name: str, place: Place, rounds: int) -> RowResult:
    """One row, whatever becomes of it."""
    before = [round(n, 2) for n in os.getloadavg()]
    say(f"{name}: getting ready, load {before[0]}")
    if name == makespan.NAME:
        return _makespan(before)
    try:
        row = ROWS[name](place)
    except RowError as error:
        return RowResult(name=name, title="", load_before=before, failure=str(error))
    result = RowResult(name=name, title=row.title, load_before=before, facts=row.facts)
    try:
        result.timings = take(row, rounds)
        result.judged = judged(row, result.timings, quick=place.quick)
    except RowError as error:
        result.failure = str(error)
    result.facts = [*row.facts, *slots_told(result.timings)]
    return result


def _makespan(before: Sequence[float]) -> RowResult:
    return RowResult(name=makespan.NAME, title=makespan.TITLE, load_before=before, judged=makespan.measure())


def take(row: Row, rounds: int) -> list[Timing]:
    """All contenders in each round, there and back again."""
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
    """Each line of the row. With --quick nothing is met or missed: the work is not the table's."""
    lines = [judge(comparison, timings) for comparison in row.comparisons]
    lines += [judge_cpu(figure, timings) for figure in row.cpu_figures]
    return [replace(line, met=None) for line in lines] if quick else lines


def slots_told(timings: Sequence[Timing]) -> list[str]:
    """How each contender's tests ran in its last round."""
    last = {t.contender: t.notes for t in timings if "containers" in t.notes}
    return [
        f"{name}: {n['containers']} containers, {n['reused']} tests in a slot used before, {n['forked']} forked,"
        f" {n['run_again']} run again"
        for name, n in last.items()
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def words_of(text: str) -> list[str]:
    """`a,b` -> names of rows."""
    names = text.split(",")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no row is called {unknown[0]!r}; rows: {', '.join(NAMES)}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=words_of, default=list(NAMES), metavar="NAME,...")
    parser.add_argument("--quick", action="store_true", help="few tests, two rounds: does it work?")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that things are cleaned up
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
        place = Place(folder=Path(folder), quick=arguments.quick)
        try:
            for name in arguments.rows:
                results.append(measure(name, place, rounds))
                write(arguments.results, {**document, "ended": load()}, results)
        finally:
            sweep(place.token)
    failed = [f"FAILED {result.name}: {result.failure}" for result in results if result.failure is not None]
    say("\n".join(failed))
    return 1 if failed else 0


def sweep(token: str) -> None:
    """Remove containers that a turn that was cut short left."""
    engine = open_engine()
    for found in engine.find({LABEL: token}):
        engine.remove_object(found)


def engine_described() -> dict[str, str | None]:
    """Without its address, which may name a host."""
    info = open_engine().info
    return {
        "name": info.name,
        "version": info.version,
        "cgroup_driver": info.cgroup_driver,
        "storage_driver": info.storage_driver,
    }


def write(folder: Path, document: dict[str, Any], results: Sequence[RowResult]) -> None:
    """Both files, named by the day; of --quick by that too, never over real figures."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "-quick" if document["quick"] else ""
    path = folder / f"overhead-{document['began']['at'][:10]}{suffix}.md"
    path.write_text(markdown(document, results))
    path.with_suffix(".json").write_text(as_json(document, results))
    say(str(path))


if __name__ == "__main__":
    sys.exit(main())
