"""Violations grouped by test and kind: a repeated violation is listed once, with its number of occurrences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.model.stored import ViolationRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ViolationGroup:
    """A budget that a test broke, once or often."""

    worst: ViolationRow
    """The gravest; of equally grave ones that with the largest measured value, of those the first."""
    last_at: datetime
    """When the last attempt that broke it began."""
    times: int
    ordinal: int
    """0, or more where one attempt has several of a kind (both output streams flooded)."""


class SeenViolation(NamedTuple):
    """One broken budget, as far as counting takes it: a report of a year counts tens of thousands."""

    attempt_id: str
    test: str
    kind: str
    severity_rank: int
    measured: float
    at: Any
    """Anything that sorts as time does."""


class CountedGroup(NamedTuple):
    """A group: `worst` and `last` are positions in the sequence that was grouped, from 0."""

    worst: int
    last: int
    times: int
    ordinal: int


def group_violations(found: Iterable[SeenViolation | tuple[Any, ...]]) -> list[CountedGroup]:
    """By test, kind and ordinal; gravest first, then most frequent, then by name. `found` is in order of time."""
    ordinals: dict[tuple[str, str], int] = {}
    groups: dict[tuple[str, str, int], list[Any]] = {}
    for place, (attempt, test, kind, severity_rank, measured, at) in enumerate(found):
        ordinal = ordinals.get((attempt, kind), 0)
        ordinals[attempt, kind] = ordinal + 1
        badness = (-severity_rank, measured)
        group = groups.get((test, kind, ordinal))
        if group is None:
            groups[test, kind, ordinal] = [badness, place, at, place, 1]
            continue
        if badness > group[0]:
            group[:2] = badness, place
        if at > group[2]:
            group[2:4] = at, place
        group[4] += 1
    order = sorted(groups.items(), key=lambda item: (-item[1][0][0], -item[1][4], item[0][0], item[0][1]))
    return [
        CountedGroup(worst=worst, last=last, times=times, ordinal=ordinal)
        for (_, _, ordinal), (_, worst, _, last, times) in order
    ]
