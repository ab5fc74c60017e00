"""How close orch's figures come to the truth, compared with those of BenchExec's runexec.

Builds known.c with gcc, runs each of its programs once in each round under each tool, one at a time, and writes
accuracy-DATE.md and .json into --results. runexec comes with `pip install benchexec`, best in a venv of its own;
on cgroup v1 it needs root.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.accuracy.judge import rows
from bench.accuracy.programs import PROGRAMS
from bench.accuracy.table import markdown
from bench.accuracy.under_orch import OrchProject
from bench.accuracy.under_runexec import Runexec
from bench.machine import describe, load
from bench.sampler import costs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.accuracy.programs import Measurement, Program

HERE = Path(__file__).parent


def build(folder: Path) -> Path:
    """Compile known.c to a static binary, which runs in any image. Exits if there is no compiler."""
    binary = folder / "known"
    words = ["gcc", "-static", "-O2", "-pthread", "-o", str(binary), str(HERE / "known.c")]
    try:
        subprocess.run(words, check=True)
    except FileNotFoundError:
        sys.exit("the accuracy benchmark compiles its programs: install gcc and a static C library")
    except subprocess.CalledProcessError as error:
        sys.exit(f"known.c was not compiled, gcc ended with {error.returncode}: is there a static C library?")
    return binary


def measure(
    rounds: int, minutes: float, project: OrchProject, runexec: Runexec | None, programs: tuple[Program, ...]
) -> list[Measurement]:
    """Run whole rounds until there are enough, the time is up, or Ctrl-C, and return the measurements.

    The tools take turns in going first. The order of the programs differs in each round for runexec; orch has its
    own.
    """
    order = random.Random(3)
    taken: list[Measurement] = []
    started = time.monotonic()
    for number in range(rounds):
        if time.monotonic() - started > minutes * 60:
            break
        shuffled = order.sample(programs, len(programs))
        turns: list[Callable[[], list[Measurement]]] = [partial(project.measure, number)]
        if runexec is not None:
            turns.append(partial(runexec.measure_all, shuffled, number))
        try:
            taken += [m for turn in (turns if number % 2 == 0 else reversed(turns)) for m in turn()]
        except KeyboardInterrupt:
            break
        print(f"round {number + 1} of {rounds}, load {load()['load'][0]}", file=sys.stderr)
    return taken


def unexpected(taken: list[Measurement], programs: tuple[Program, ...]) -> list[tuple[str, str, str, int]]:
    """Return (tool, program, outcome, count) where the outcome is not the expected one."""
    wanted = {program.name: program.outcome for program in programs}
    wrong = Counter((m.tool, m.program, m.outcome) for m in taken if m.outcome != wanted[m.program])
    return [(*key, count) for key, count in wrong.items()]


def find_runexec(command: str | None, binary: Path, folder: Path) -> tuple[Runexec | None, str]:
    """Return runexec if it can measure on this machine, and a sentence about it."""
    command = command or shutil.which("runexec")
    if command is None:
        return None, "not run: there is none (pip install benchexec, --runexec PATH)"
    runexec = Runexec(command, binary, folder)
    reason = runexec.why_not()
    if reason is not None:
        return None, f"cannot measure here, in its own words: {reason}"
    refused = runexec.why_no_container()
    mode = (
        "its container mode works too" if refused is None else f"its container mode does not work here: {refused}"
    )
    return runexec, f"{runexec.version()}, with --no-container; {mode}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=60.0, help="start no round after so long")
    parser.add_argument("--smoke", action="store_true", help="two rounds")
    parser.add_argument("--only", action="append", metavar="PROGRAM", help="these, and the one that does nothing")
    parser.add_argument("--runexec", metavar="COMMAND")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    arguments = parser.parse_args(argv)
    programs = tuple(p for p in PROGRAMS if not arguments.only or p.name in {*arguments.only, "null"})
    began = load()
    sampler = costs(seconds=5.0, slots=64)
    with tempfile.TemporaryDirectory(prefix="orch-accuracy-") as name:
        folder = Path(name)
        binary = build(folder)
        runexec, about = find_runexec(arguments.runexec, binary, folder)
        project = OrchProject(folder / "project", binary, programs)
        rounds = 2 if arguments.smoke else arguments.rounds
        taken = measure(rounds, arguments.minutes, project, runexec, programs)
    table = rows(taken, programs)
    document: dict[str, Any] = {
        "schema": 1,
        "began": began,
        "ended": load(),
        "rounds": len({m.round for m in taken}),
        "machine": describe(),
        **project.environment,
        "runexec": about,
        "sampler": sampler,
        "unexpected": unexpected(taken, programs),
        "disagreements": sum("disagreements" in m.notes for m in taken),
    }
    document["engine"] = {key: value for key, value in document["engine"].items() if key != "address"}
    page = markdown(document, table)
    document["rows"] = [asdict(row) for row in table]
    document["measurements"] = [compact(m) for m in taken]
    write(arguments.results, page, document)
    return 0


def compact(measurement: Measurement) -> dict[str, Any]:
    """Return the measurement without what the rows contain already, with 10 digits."""
    plain = asdict(measurement)
    figures = {name: value for name, value in plain["figures"].items() if value is not None}
    plain["figures"] = {n: float(f"{v:.10g}") if isinstance(v, float) else v for n, v in figures.items()}
    return {key: value for key, value in plain.items() if key != "sources" and value not in (None, {})}


def as_json(document: dict[str, Any]) -> str:
    """Return the document as JSON with one measurement a line."""
    lines = ",\n  ".join(json.dumps(m) for m in document["measurements"])
    head = json.dumps({key: value for key, value in document.items() if key != "measurements"}, indent=1)
    head = head.removesuffix("\n}")
    return f'{head},\n "measurements": [\n  {lines}\n ]\n}}\n'


def write(folder: Path, page: str, document: dict[str, Any]) -> None:
    """Write both files, named by the date."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"accuracy-{document['began']['at'][:10]}.md"
    path.write_text(page)
    path.with_suffix(".json").write_text(as_json(document))
    print(path)
