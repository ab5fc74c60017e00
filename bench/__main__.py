"""Run one benchmark: `python -m bench NAME [OPTIONS]`. Without a name, list them with the question
each answers.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

BENCHMARKS = {
    "overhead": ("bench.overhead.command", "How much longer do tests take with orch than without it?"),
    "fresh-slots": ("bench.fresh_slots", "Where does the time of a fresh container go?"),
    "slot-timings": ("bench.slot_timings", "How long did creating, starting, testing and removing take in a run?"),
    "coordinator": ("bench.coordinator", "How much CPU time and memory does orch itself use for a test?"),
    "sampler": ("bench.sampler", "How much CPU time does sampling 64 slots cost?"),
    "database": ("bench.database", "How fast are recording and queries with a million attempts?"),
    "report-sorting": ("bench.report_sorting", "How long does sorting a table take in the nightly report?"),
    "makespan": ("bench.makespan", "How close does the scheduler come to the shortest possible run?"),
    "shards": ("bench.shards", "How evenly are the tests of a real project divided into shards?"),
    "accuracy": ("bench.accuracy.command", "How close are the measured figures to the truth?"),
    "own-memory": ("bench.accuracy.own_memory", "Is a test's own memory the same wherever it runs?"),
    "gates": ("bench.gates", "How often is `orch check` wrong?"),
    "rightsizing": ("bench.rightsizing", "Would the suggested profiles have killed a test?"),
    "cgroups-at-start": ("cgroups_at_start.sh", "What do a container's cgroups contain before its first test?"),
}
"""Name -> the module with `main(argv)`, or a shell script in this folder; and the question that it answers."""


def main(argv: list[str]) -> int:
    """Run the benchmark that `argv` names and return its exit code; 2 for an unknown name."""
    if not argv or argv[0] in {"-h", "--help"}:
        print("usage: python -m bench NAME [OPTIONS]; NAME --help shows the options (see bench/README.md)\n")
        for name, (_, question) in BENCHMARKS.items():
            print(f"  {name:<17} {question}")
        return 0
    name, *options = argv
    if name not in BENCHMARKS:
        print(f"unknown benchmark {name!r}; known are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    target, _ = BENCHMARKS[name]
    if target.endswith(".sh"):
        return subprocess.run(["sh", str(Path(__file__).parent / target), *options], check=False).returncode
    sys.argv[0] = f"python -m bench {name}"
    result: int = import_module(target).main(options)
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
