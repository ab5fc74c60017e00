"""Broken budgets counted: the same trouble of the same test once, however often it was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.model.outcomes import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.model.stored import BrokenBudget

GRAVITY = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}
"""The gravest has the lowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A budget that a test broke, once or often."""

    worst: BrokenBudget
    """The gravest; of equally grave ones that with the largest measured value, of those the first."""
    last_at: datetime
    """When the last attempt that broke it began."""
    times: int
    ordinal: int
    """0, or more where one attempt has several of a kind (both output streams flooded)."""


class Seen(NamedTuple):
    """One broken budget, as far as counting takes it: a report of a year counts tens of thousands."""

    attempt_id: str
    test: str
    kind: str
    gravity: int
    measured: float
    at: Any
    """Anything that sorts as time does."""


class Counted(NamedTuple):
    """One trouble: `worst` and `last` are places in what was counted, from 0."""

    worst: int
    last: int
    times: int
    ordinal: int


def counted(found: Iterable[Seen | tuple[Any, ...]]) -> list[Counted]:
    """By test, kind and ordinal; gravest first, then most frequent, then by name. `found` is in order of time."""
    ordinals: dict[tuple[str, str], int] = {}
    groups: dict[tuple[str, str, int], list[Any]] = {}
    for place, (attempt, test, kind, gravity, measured, at) in enumerate(found):
        ordinal = ordinals.get((attempt, kind), 0)
        ordinals[attempt, kind] = ordinal + 1
        badness = (-gravity, measured)
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
        Counted(worst=worst, last=last, times=times, ordinal=ordinal)
        for (_, _, ordinal), (_, worst, _, last, times) in order
    ]
