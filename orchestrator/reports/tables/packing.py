"""The packing of a plan as text: which tests run beside which, in how many lanes, and what limits them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.text import format_ratio, format_seconds, one_line, plural, shorten_middle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.tests import ScheduledTest

MAX_LANES = 8
MAX_NAMED = 3
_NAME_COLUMNS = 44


def packing_lines(scheduled: Sequence[ScheduledTest], makespan_seconds: float) -> list[str]:
    """Lane by lane what runs there and from when; tests on lines above each other run beside each other."""
    lanes: dict[int, list[ScheduledTest]] = {}
    for one in scheduled:
        lanes.setdefault(one.lane, []).append(one)
    if not lanes:
        return []
    lines = [f"Packing, {plural(len(lanes), 'test')} at a time at most:"]
    for number, tests in sorted(lanes.items())[:MAX_LANES]:
        busy = sum(one.ended_seconds - one.started_seconds for one in tests)
        share = format_ratio(busy / makespan_seconds if makespan_seconds > 0 else 0.0)
        lines.append(f"  lane {number + 1}  {plural(len(tests), 'test')}, busy {share} of the time")
        lines += [_line(one) for one in tests[:MAX_NAMED]]
        rest = tests[MAX_NAMED:]
        if rest:
            last = max(one.ended_seconds for one in rest)
            seconds = sum(one.ended_seconds - one.started_seconds for one in rest)
            more = f"and {len(rest)} more, {format_seconds(seconds)} together, to {format_seconds(last)}"
            lines.append(f"          {more}")
    if len(lanes) > MAX_LANES:
        hidden = sum(len(tests) for number, tests in lanes.items() if number >= MAX_LANES)
        lines.append(f"  and {plural(len(lanes) - MAX_LANES, 'lane')} more with {plural(hidden, 'test')}")
    return lines


def _line(one: ScheduledTest) -> str:
    name = shorten_middle(one_line(one.assignment.key), _NAME_COLUMNS)
    start = format_seconds(one.started_seconds) if one.started_seconds else "0s"
    seconds = format_seconds(one.ended_seconds - one.started_seconds)
    return f"          {f'at {start}':<10} {f'for {seconds}':<11} {one.assignment.profile.name:<9} {name}"
