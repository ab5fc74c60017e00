"""Timeline of a run: attempts in lanes, and what each attempt waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import SUCCESSFUL, Outcome
from orchestrator.reports.html.svg import steps_path, strokes_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.stored import AttemptRow, RunRecord

WIDTH = 1000.0
LANE_HEIGHT = 16.0
WAITING_HEIGHT = 40.0
_SLACK_SECONDS = 0.005
"""Tolerance between two clocks: a start that is this much earlier than an end counts as later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """An attempt in its lane. Times are seconds since the start of the run."""

    attempt: AttemptRow
    lane: int
    start: float
    end: float
    freed_by: AttemptRow | None
    """The attempt that ended before it in the same lane, if this one was queued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All attempts of a run with the figures that the page shows."""

    blocks: tuple[Block, ...]
    lanes: int
    seconds: float
    busy_ratio: float
    """Share of the lanes' time in which tests ran."""
    tail_seconds: float
    """Seconds at the end of the run in which at most half of the lanes ran a test."""
    last: AttemptRow
    waits: tuple[Block, ...]
    """The attempts that were queued longest, longest first."""

    @property
    def height(self) -> float:
        """The height of the drawing of the lanes."""
        return self.lanes * LANE_HEIGHT

    @property
    def paths(self) -> dict[str, str]:
        """CSS class -> path of its blocks. Times are scaled to WIDTH units."""
        parts: dict[str, list[tuple[float, float, float]]] = {"good": [], "bad": [], "other": []}
        scale = WIDTH / self.seconds
        for block in sorted(self.blocks, key=lambda b: (b.lane, b.start)):
            outcome = block.attempt.outcome
            silent = outcome in (Outcome.SKIPPED, Outcome.INFRA, Outcome.INTERRUPTED)
            name = "other" if silent else "good" if outcome in SUCCESSFUL else "bad"
            length = (block.end - block.start) * scale - 0.3
            parts[name].append((block.start * scale, (block.lane + 0.5) * LANE_HEIGHT, length))
        return {name: strokes_path(found) for name, found in parts.items() if found}

    @property
    def waiting_most(self) -> int:
        """The largest number of tests that were queued at the same time."""
        return max((count for _, count in self._waiting()), default=0)

    @property
    def waiting_path(self) -> str:
        """Area of the number of queued tests, WAITING_HEIGHT high."""
        most = self.waiting_most
        if most == 0:
            return ""
        scale = WIDTH / self.seconds
        steps = [(at * scale, WAITING_HEIGHT * (1 - count / most)) for at, count in self._waiting()]
        return steps_path(_thinned(steps), end=WIDTH, base=WAITING_HEIGHT)

    def _waiting(self) -> list[tuple[float, int]]:
        edges: list[tuple[float, int]] = []
        for block in self.blocks:
            timings = block.attempt.timings
            ready = block.start - timings.start_seconds - timings.create_seconds
            edges += [(max(ready - timings.queue_seconds, 0.0), 1), (max(ready, 0.0), -1)]
        count, steps = 0, []
        for at, change in sorted(edges):
            count += change
            steps.append((at, count))
        return steps


def _thinned(steps: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most one step in four units of width, the last of them; more would not be visible."""
    kept: dict[int, tuple[float, float]] = {}
    for x, y in steps:
        kept[int(x / 4)] = (x, y)
    return list(kept.values())


def timeline(record: RunRecord) -> Timeline | None:
    """Return the timeline, or None if no test of the run was started."""
    attempts = sorted(record.attempts, key=lambda a: (a.started_at, a.id))
    if not attempts:
        return None
    zero = min(a.started_at.timestamp() for a in attempts)
    zero = min(zero, record.run.started_at.timestamp())
    lanes = _lanes(attempts)
    blocks: list[Block] = []
    freed: dict[int, Block] = {}
    for attempt in attempts:
        lane, start = lanes[attempt.id], attempt.started_at.timestamp() - zero
        previous = freed.get(lane)
        waited = attempt.timings.queue_seconds >= _SLACK_SECONDS
        freed_by = previous.attempt if previous is not None and waited else None
        end = start + attempt.timings.test_seconds
        blocks.append(Block(attempt=attempt, lane=lane, start=start, end=end, freed_by=freed_by))
        freed[lane] = blocks[-1]
    seconds = max(*(block.end for block in blocks), 0.001)
    count = max(lanes.values()) + 1
    last = max(blocks, key=lambda block: block.end)
    waits = sorted((b for b in blocks if b.freed_by), key=lambda b: -b.attempt.timings.queue_seconds)
    return Timeline(
        blocks=tuple(blocks),
        lanes=count,
        seconds=seconds,
        busy_ratio=min(sum(b.end - b.start for b in blocks) / (count * seconds), 1.0),
        tail_seconds=_tail(blocks, count, seconds),
        last=last.attempt,
        waits=tuple(waits[:8]),
    )


def _lanes(attempts: Sequence[AttemptRow]) -> dict[str, int]:
    """Return the lane of each attempt. Containers that ran one after another share a lane, and a container stays
    in one lane; there are as few lanes as possible.
    """
    spans: dict[str, tuple[float, float]] = {}
    names: dict[str, str] = {}
    for attempt in attempts:
        name = attempt.attestation.container_name if attempt.attestation else attempt.id
        start = attempt.started_at.timestamp()
        end = start + attempt.timings.test_seconds
        first, last = spans.get(name, (start, end))
        spans[name], names[attempt.id] = (min(first, start), max(last, end)), name
    free: list[float] = []
    placed: dict[str, int] = {}
    for name, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        lane = next((n for n, since in enumerate(free) if since <= start + _SLACK_SECONDS), len(free))
        if lane == len(free):
            free.append(end)
        free[lane] = end
        placed[name] = lane
    return {attempt_id: placed[name] for attempt_id, name in names.items()}


def _tail(blocks: Sequence[Block], lanes: int, seconds: float) -> float:
    """Return the seconds at the end in which at most half of the lanes ran a test; 0.0 if more never did."""
    if lanes < 2:
        return 0.0
    edges = sorted([(b.start, 1) for b in blocks] + [(b.end, -1) for b in blocks])
    running, since = 0, seconds
    for at, change in edges:
        before, running = running, running + change
        if before > lanes / 2 >= running:
            since = at
    return seconds - since
