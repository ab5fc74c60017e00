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
    """All violations of one test that have the same kind and ordinal."""

    worst: ViolationRow
    """The most severe; among equals the one with the largest measured value, then the earliest."""
    last_at: datetime
    """Start of the last attempt that has the violation."""
    times: int
    """Number of attempts that have the violation."""
    ordinal: int
    """Number of violations of this kind before it in the same attempt: 1 for the second output stream that
    was flooded, 0 for nearly all others.
    """


class SeenViolation(NamedTuple):
    """The facts about one violation that grouping needs; a tuple, because a year has tens of thousands."""

    attempt_id: str
    test: str
    kind: str
    severity_rank: int
    measured: float
    at: Any
    """Start of the attempt, in any type that sorts by time."""


class CountedGroup(NamedTuple):
    """A group, with `worst` and `last` as positions (from 0) in the sequence that was grouped."""

    worst: int
    last: int
    times: int
    ordinal: int


def group_violations(found: Iterable[SeenViolation | tuple[Any, ...]]) -> list[CountedGroup]:
    """Group violations, which must be in order of time, by test, kind and ordinal. The most severe group comes
    first, then the most frequent, then by name.
    """
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
