"""Divide a plan among several machines. Pure: every shard computes the same partition."""

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
from orchestrator.scheduling.wait_queue import expected_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.model.tests import Assignment


class ShardBy(StrEnum):
    """The quantity in which the shards are made equal."""

    TIME = "time"
    MEMORY = "memory"
    HASH = "hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Shard `number` of `count`, counted from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise UsageError(
                f"there is no shard {self.number} of {self.count}",
                remedy="write --shard m/n with m from 1 to n, such as --shard 2/5",
            )


def parse_shard(text: str) -> Shard:
    """Parse `m/n`, such as `2/5`. Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if found is None:
        raise UsageError(f"cannot read the shard {text!r}", remedy="write --shard m/n, such as --shard 2/5")
    return Shard(number=int(found[1]), count=int(found[2]))


ENVIRONMENTS = (
    ("STRATEGY_JOB_INDEX", "STRATEGY_JOB_TOTAL", 0),
    ("BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0),
    ("CI_NODE_INDEX", "CI_NODE_TOTAL", 1),
)
"""The variables with a job's number and the number of jobs, and the number of the first job. GitHub sets none: the
workflow passes its `strategy.job-index` and `strategy.job-total`, as in examples/ci. GitLab counts from 1 and sets
CI_NODE_TOTAL=1 if there is only one job.
"""


def shard_of_environment(environ: Mapping[str, str]) -> Shard | None:
    """Return the shard that the CI system assigned to this job, or None. Raises UsageError if only one variable is
    set.
    """
    for index_name, total_name, first in ENVIRONMENTS:
        index, total = environ.get(index_name, "").strip(), environ.get(total_name, "").strip()
        if not index and total in ("", "1"):
            continue
        if not (re.fullmatch("[0-9]{1,6}", index) and re.fullmatch("[0-9]{1,6}", total)):
            raise UsageError(
                f"cannot tell the shard from {index_name}={index!r} and {total_name}={total!r}",
                remedy=f"set both to numbers, {index_name} counted from {first}, or write --shard m/n",
            )
        return Shard(number=int(index) + 1 - first, count=int(total))
    return None


def select(plan: Sequence[Assignment], shard: Shard, by: ShardBy) -> tuple[Assignment, ...]:
    """Return the shard's part of the plan, in the plan's order. Each assignment is in exactly one shard.

    HASH uses only a test's id: the test stays in its shard whatever other tests are added or removed. TIME and
    MEMORY give the largest remaining test to the shard with the smallest sum (longest processing time first; at
    most 4/3 of the best partition: Graham 1969). They need the same history in every shard, for example from one
    restored database; with different ones a test could run twice or not at all, which `partition_digest` shows
    (docs/design/scheduling/shards.md).
    """
    owners = partition(plan, shard.count, by)
    return tuple(a for a, owner in zip(plan, owners, strict=True) if owner == shard.number - 1)


def partition(plan: Sequence[Assignment], count: int, by: ShardBy) -> list[int]:
    """Return the index, from 0, of the shard of each assignment."""
    if by is ShardBy.HASH:
        return [_hashed(a, count) for a in plan]
    return _balance(plan, weights_of(plan, by), count)


def weights_of(plan: Sequence[Assignment], by: ShardBy) -> Sequence[float]:
    """Return what each assignment adds to its shard: expected seconds or bytes; 1 for each with HASH."""
    if by is ShardBy.HASH:
        return [1.0] * len(plan)
    return [need_of(a).memory_bytes for a in plan] if by is ShardBy.MEMORY else _durations(plan)


def partition_digest(plan: Sequence[Assignment], count: int, by: ShardBy) -> str:
    """Return 8 hexadecimal digits that identify the partition: shards with equal digests run each test exactly
    once.
    """
    digest = blake2b(f"{count}".encode(), digest_size=4)
    owners = zip(plan, partition(plan, count, by), strict=True)
    for name, repetition, owner in sorted((str(a.test.id), a.repetition, owner) for a, owner in owners):
        digest.update(f"\0{name}\0{repetition}\0{owner}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def imbalance(plan: Sequence[Assignment], count: int, by: ShardBy) -> float | None:
    """Return the largest shard divided by the mean, in the plan's own weights; 1 is perfect. None if all weights
    are 0.
    """
    weights = weights_of(plan, by)
    loads = [0.0] * count
    for weight, owner in zip(weights, partition(plan, count, by), strict=True):
        loads[owner] += weight
    total = sum(loads)
    return max(loads) * count / total if total > 0 else None


def _hashed(assignment: Assignment, count: int) -> int:
    name = str(assignment.test.id).encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") % count


def _durations(plan: Sequence[Assignment]) -> list[float]:
    """Return the expected seconds of each assignment. A test without history gets the median of the known ones of
    its profile, because its timeout would make it look many times too long.
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
    """Return the index of the shard of each assignment. The result does not depend on the plan's order."""

    def place(pair: tuple[int, float]) -> tuple[float, str, int]:
        index, weight = pair
        return -weight, str(plan[index].test.id), plan[index].repetition

    loads = [(0.0, 0, index) for index in range(count)]  # sorted, so it is a heap
    owners = [0] * len(plan)
    for index, weight in sorted(enumerate(weights), key=place):
        load, tests, owner = loads[0]
        owners[index] = owner
        heapreplace(loads, (load + weight, tests + 1, owner))  # equal loads: fewer tests first
    return owners
