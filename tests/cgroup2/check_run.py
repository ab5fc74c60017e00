"""Checks the JSON of `orch run` on tests/cgroup2/project, from standard input: outcomes and complete figures."""

from __future__ import annotations

import json
import sys

OUTCOMES = {"burns": "passed", "nothing": "passed", "out-of-memory": "oom", "too-long": "timeout"}
FIGURES = ("cpu_seconds", "memory_peak_bytes", "memory_floor_bytes", "pids_peak", "oom_kills", "throttled_seconds")
NOTHING_BYTES = 3 << 20
"""More a shell that does nothing cannot need itself, whatever stood in its container."""


def main() -> int:
    document = json.load(sys.stdin)
    tests = {test["path"].rpartition("/")[2].partition(".")[0]: test for test in document["tests"]}
    problems = [
        f"{name}: {tests[name]['outcome']}" for name, want in OUTCOMES.items() if tests[name]["outcome"] != want
    ]
    for name, test in sorted(tests.items()):
        usage = test["usage"]
        print(
            f"{name:14} {test['outcome']:8} cpu {usage['cpu_seconds']:7.3f} s"
            f"  peak {(usage['memory_peak_bytes'] or 0) / 2**20:6.2f} MiB  pids {usage['pids_peak']}"
            f"  oom kills {usage['oom_kills']}  {sorted(set(usage['sources'].values()))}"
        )
        problems += [
            f"{name}: no {figure}: {usage['missing'].get(figure)}" for figure in FIGURES if usage[figure] is None
        ]
    if tests["out-of-memory"]["usage"]["oom_kills"] != 1:
        problems.append("the OOM kill was not counted")
    nothing = tests["nothing"]["usage"]
    if not nothing["memory_peak_is_upper_bound"] and nothing["memory_peak_bytes"] > NOTHING_BYTES:
        problems.append(f"a test that does nothing needs {nothing['memory_peak_bytes']} bytes")
    if document["ledger"]["left"]:
        problems.append(f"left: {document['ledger']['left']}")
    print("\n".join(problems))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
