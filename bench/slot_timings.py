"""How long each phase took in a run's slots, for first and for later tests of a slot, from a run.json.

Also prints the gap between the end of one test and the start of the next in the same container. For the functions
that use the time, run `orch run` under a profiler (see bench/README.md).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PHASES = ("create_seconds", "start_seconds", "duration_seconds", "teardown_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotTiming:
    """The timing of one attempt."""

    container: str | None
    """The container's ID; None: it is not known."""
    position: int
    """The attempt's number among the tests of its container, from 1."""
    started: float
    """Seconds since the epoch."""
    phase_seconds: dict[str, float]


def slot_timings(document: dict[str, Any]) -> list[SlotTiming]:
    """Return the timings of all attempts of a run.json."""
    return [
        SlotTiming(
            container=(attempt.get("attestation") or {}).get("container_id"),
            position=(attempt.get("slot") or {}).get("position") or 1,
            started=datetime.fromisoformat(attempt["started_at"]).timestamp(),
            phase_seconds={phase: attempt[phase] for phase in PHASES},
        )
        for test in document["tests"]
        for attempt in test["attempts"]
    ]


def gaps(timings: Iterable[SlotTiming]) -> list[float]:
    """Return the seconds between the end of each test and the start of the next one in the same container."""
    by_container: defaultdict[str, list[SlotTiming]] = defaultdict(list)
    for timing in timings:
        if timing.container is not None:
            by_container[timing.container].append(timing)
    found = []
    for tests in by_container.values():
        tests.sort(key=lambda timing: timing.started)
        for before, after in pairwise(tests):
            found.append(after.started - before.started - before.phase_seconds["duration_seconds"])
    return found


def timings_table(timings: Sequence[SlotTiming]) -> str:
    """Return a Markdown table of the median of each phase, and a line about the gaps."""
    lines = ["| tests | number | " + " | ".join(phase.removesuffix("_seconds") for phase in PHASES) + " |"]
    lines.append("|---|--:|" + "--:|" * len(PHASES))
    for title, first in (("first in their slot", True), ("later in their slot", False)):
        group = [timing for timing in timings if (timing.position == 1) is first]
        if group:
            cells = [f"{median(t.phase_seconds[phase] for t in group) * 1000:.2f} ms" for phase in PHASES]
            lines.append(f"| {title} | {len(group)} | " + " | ".join(cells) + " |")
    between = [gap * 1000 for gap in gaps(timings)]
    if between:
        figures = f"{median(between):.2f} ms, lowest {min(between):.2f}, highest {max(between):.2f}"
        lines.append(f"\nBetween a test's end and the next one's start in the same container: median {figures}.")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Print the table of one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_json", type=Path, help="such as .orch/latest/run.json")
    arguments = parser.parse_args(argv)
    print(timings_table(slot_timings(json.loads(arguments.run_json.read_bytes()))))
    return 0
