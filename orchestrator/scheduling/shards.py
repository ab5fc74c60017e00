"""Which part of a plan one of several machines runs. Pure: every shard computes the same partition."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from heapq import heapreplace
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.scheduling.admission import need_of
from orchestrator.scheduling.order import expected_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.model import Assignment


class ShardBy(StrEnum):
    """What the shards are made equal in."""

    TIME = "time"
    MEMORY = "memory"
    HASH = "hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The `number`th of `count` shards, counted from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise UsageError(
                f"there is no shard {self.number} of {self.count}",
                remedy="write --shard m/n with m from 1 to n, such as --shard 2/5",
            )


def parse_shard(text: str) -> Shard:
    """`m/n`, such as `2/5`. Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if found is None:
        raise UsageError(f"cannot read the shard {text!r}", remedy="write --shard m/n, such as --shard 2/5")
    return Shard(number=int(found[1]), count=int(found[2]))


def select(plan: Sequence[Assignment], shard: Shard, by: ShardBy) -> tuple[Assignment, ...]:
    """The shard's part of the plan, in the plan's order. Each assignment is in exactly one shard.

    HASH looks at nothing but a test's id: it stays in its shard whatever else is added or removed. TIME and
    MEMORY hand the largest test that is left to the shard that has least so far (longest processing time
    first; at most 4/3 of the best partition: Graham 1969). They need every shard to see the same history,
    as by restoring one database; with different ones a test could run twice, or not at all.
    """
    if by is ShardBy.HASH:
        return tuple(a for a in plan if _hashed(a, shard.count) == shard.number - 1)
    weights = [need_of(a).memory_bytes for a in plan] if by is ShardBy.MEMORY else _durations(plan)
    owners = _balance(plan, weights, shard.count)
    return tuple(a for a, owner in zip(plan, owners, strict=True) if owner == shard.number - 1)


def _hashed(assignment: Assignment, count: int) -> int:
    name = str(assignment.test.id).encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") % count


def _durations(plan: Sequence[Assignment]) -> list[float]:
    """Expected seconds of each. A test without history counts as the median of its profile's known ones: a
    timeout beside real durations would make it look many times too long.
    """
    known: dict[str, list[float]] = {}
    for assignment in plan:
        if assignment.history is not None:
            known.setdefault(assignment.profile.name, []).append(expected_seconds(assignment))
    medians = {name: median(durations) for name, durations in known.items()}
    return [_duration(assignment, medians) for assignment in plan]


def _duration(assignment: Assignment, medians: Mapping[str, float]) -> float:
    if assignment.history is None and assignment.profile.name in medians:
        return medians[assignment.profile.name]
    return expected_seconds(assignment)


def _balance(plan: Sequence[Assignment], weights: Iterable[float], count: int) -> list[int]:
    """Index of the shard that each assignment goes to. Independent of the plan's order."""

    def place(pair: tuple[int, float]) -> tuple[float, str, int]:
        index, weight = pair
        return -weight, str(plan[index].test.id), plan[index].repetition

    loads = [(0.0, 0, index) for index in range(count)]  # in order, so a heap already
    owners = [0] * len(plan)
    for index, weight in sorted(enumerate(weights), key=place):
        load, tests, owner = loads[0]
        owners[index] = owner
        heapreplace(loads, (load + weight, tests + 1, owner))  # equal loads: fewer tests first
    return owners
