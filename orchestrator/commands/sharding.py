"""`--shard`: which part of the plan this machine runs, and what proves that no test is lost between shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.scheduling.shards import (
    Shard,
    ShardBy,
    imbalance,
    parse_shard,
    partition_digest,
    select,
    shard_of_environment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.model import Assignment


def shard_wanted(text: str | None, environ: Mapping[str, str], notice: Callable[[str], None]) -> Shard | None:
    """`m/n`, or `auto`: what the CI system says. Never guessed without being asked: a matrix of Python versions
    has the same variables, and each of its jobs must run everything.
    """
    if not text:
        return None
    if text.strip().lower() != "auto":
        return parse_shard(text)
    shard = shard_of_environment(environ)
    if shard is None:
        notice("--shard auto: no variable of GitHub, GitLab or Buildkite names a shard; everything is run")
    return shard


def sharded(
    plan: Sequence[Assignment], shard: Shard, by_name: str, notice: Callable[[str], None]
) -> tuple[Assignment, ...]:
    """The shard's part, and a line to stderr that says how good and which partition it is."""
    by = ShardBy(by_name)
    part = select(plan, shard, by)
    known = sum(a.history is not None for a in plan)
    ratio = imbalance(plan, shard.count, by)
    balance = "" if ratio is None else f", the largest {ratio:.2f} of the mean"
    digest = partition_digest(plan, shard.count, by)
    notice(
        f"shard {shard.number}/{shard.count} by {by.value}: {len(part)} of {len(plan)} tests ({known} with "
        f"history){balance}; partition {digest}, the same on all shards or tests are lost"
    )
    return part
