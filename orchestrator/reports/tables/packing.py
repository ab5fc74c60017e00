"""Text of a plan's packing: which tests run at the same time, on how many workers, and what limits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.text import format_ratio, format_seconds, one_line, plural, shorten_middle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.tests import ScheduledTest

MAX_WORKERS = 8
MAX_NAMED = 3
_NAME_COLUMNS = 44


def packing_lines(scheduled: Sequence[ScheduledTest], makespan_seconds: float) -> list[str]:
    """Return the text lines: for each worker its tests and their start times."""
    workers: dict[int, list[ScheduledTest]] = {}
    for one in scheduled:
        workers.setdefault(one.worker, []).append(one)
    if not workers:
        return []
    lines = [f"Packing, {plural(len(workers), 'test')} at a time at most:"]
    for number, tests in sorted(workers.items())[:MAX_WORKERS]:
        busy = sum(one.ended_seconds - one.started_seconds for one in tests)
        share = format_ratio(busy / makespan_seconds if makespan_seconds > 0 else 0.0)
        lines.append(f"  worker {number + 1}  {plural(len(tests), 'test')}, busy {share} of the time")
        lines += [_line(one) for one in tests[:MAX_NAMED]]
        rest = tests[MAX_NAMED:]
        if rest:
            last = max(one.ended_seconds for one in rest)
            seconds = sum(one.ended_seconds - one.started_seconds for one in rest)
            more = f"and {len(rest)} more, {format_seconds(seconds)} together, to {format_seconds(last)}"
            lines.append(f"          {more}")
    if len(workers) > MAX_WORKERS:
        hidden = sum(len(tests) for number, tests in workers.items() if number >= MAX_WORKERS)
        lines.append(f"  and {plural(len(workers) - MAX_WORKERS, 'worker')} more with {plural(hidden, 'test')}")
    return lines


def _line(one: ScheduledTest) -> str:
    name = shorten_middle(one_line(one.assignment.key), _NAME_COLUMNS)
    start = format_seconds(one.started_seconds) if one.started_seconds else "0s"
    seconds = format_seconds(one.ended_seconds - one.started_seconds)
    return f"          {f'at {start}':<10} {f'for {seconds}':<11} {one.assignment.profile.name:<9} {name}"
