"""Estimates the memory that a test itself needed, beyond what was charged to its container before it began.

The kernel's peak is of everything that is charged: what was there before (the agent, a preloaded interpreter), the
page cache of files that somebody read, and the test's anonymous, shared and kernel memory. Only the last is need.
No kernel keeps a peak of it alone, so it lies between two bounds: the whole rise of the peak, and that rise less
the page cache that was charged meanwhile. Most tests read files that are cached already, so that both are the
same. docs/design/measure/own-memory.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.measure.counters import Counters
    from orchestrator.model.usage import Sample

TOLERANCE_BYTES = 1 << 20
TOLERANCE_SHARE = 0.05
"""Bounds that differ by no more than this, or than that share of the higher one, count as one figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMemory:
    """The memory that one test needed, in bytes."""

    memory_bytes: int
    at_most: bool = False
    """True if the figure is an upper bound: the peak may be of something that ran before."""
    at_least: bool = False
    """True if the figure is a lower bound: page cache charged meanwhile may have been part of the peak."""
    cache_bytes: int | None = None
    """The page cache charged while it ran; None if that is not known."""


def cache_of(counters: Counters | Sample) -> int | None:
    """Return the page cache of files, which the kernel can reclaim, in bytes; without tmpfs and shared memory."""
    if counters.file_bytes is None or counters.shmem_bytes is None:
        return None
    return max(0, counters.file_bytes - counters.shmem_bytes)


def unreclaimable_of(counters: Counters | Sample) -> int | None:
    """Return anonymous and shared memory, in bytes: what cannot be reclaimed, except the kernel's own."""
    if counters.anon_bytes is None or counters.shmem_bytes is None:
        return None
    return counters.anon_bytes + counters.shmem_bytes


def own_memory(
    *,
    floor_bytes: int | None,
    peak: int,
    peak_at_least: int | None = None,
    before: Counters | Sample,
    after: Counters | Sample,
    samples: Iterable[Sample] = (),
) -> OwnMemory:
    """Return the memory that a test needed itself.

    `peak` is the most that was charged at once while it ran, `floor_bytes` what was charged when it began (None if
    unknown). `peak_at_least` is the part of `peak` that is known to be the test's own, where the rest may be of
    something that ran before it. `before` and `after` are readings of the kinds of memory at its start and end.
    """
    base = floor_bytes or 0
    highest = max(0, peak - base)
    surely = max(0, (peak if peak_at_least is None else peak_at_least) - base)
    cached, seen = _seen(samples)
    first, last = cache_of(before), cache_of(after)
    cache = None if first is None or last is None else max(0, max(last, cached) - first)
    held = unreclaimable_of(before)
    lowest = max(0, surely - (surely if cache is None else cache), 0 if held is None else seen - held)
    lowest = min(lowest, highest)
    close = max(TOLERANCE_BYTES, TOLERANCE_SHARE * highest)
    apart = highest - lowest > close
    if floor_bytes is None or highest - surely > close or (apart and cache is None):
        return OwnMemory(memory_bytes=highest, at_most=True, cache_bytes=cache)
    return OwnMemory(memory_bytes=lowest, at_least=apart, cache_bytes=cache)


def _seen(samples: Iterable[Sample]) -> tuple[int, int]:
    """Return the maxima of page cache, and of anonymous and shared memory, in samples of a living test."""
    cached = held = 0
    for sample in samples:
        if sample.anon_bytes:
            cached = max(cached, cache_of(sample) or 0)
            held = max(held, unreclaimable_of(sample) or 0)
    return cached, held
