"""The figures of a `Usage`: their names by the way they are measured, and how a `Usage` is made of them. Pure.

Both ways of measuring use this table: `usage.combine`, from readings of several cgroups around a test, and
`reused_slot.window_usage`, from two snapshots of the container's own cgroup.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator.measure.parts import cap_parts
from orchestrator.model.usage import Source, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

CPU = ("cpu_seconds", "cpu_user_seconds", "cpu_system_seconds")
IO = ("read_bytes", "write_bytes")
THROTTLING = ("throttled_periods", "throttled_seconds")
EVENTS = ("oom_kills", "pids_limit_hits")
COUNTED = (*IO, *THROTTLING, *EVENTS)
"""Figures that are the growth of one running counter, without a better source for the total."""
MEMORY_PEAK = "memory_peak_bytes"
MEMORY_FLOOR = "memory_floor_bytes"
MEMORY_CHARGED = "memory_charged_peak_bytes"
PAGE_CACHE = "page_cache_bytes"
PEAKS = (MEMORY_PEAK, "swap_peak_bytes", "pids_peak")
KINDS = {"anon_peak_bytes": "anon_bytes", "file_peak_bytes": "file_bytes", "shmem_peak_bytes": "shmem_bytes"}
"""Peaks by kind of memory -> the field of a sample that they are the maximum of."""
FIGURES = (*CPU, *COUNTED, *PEAKS, MEMORY_FLOOR, MEMORY_CHARGED, PAGE_CACHE, *KINDS)

NO_IO_REASON = "the kernel counted no I/O of this cgroup"

_NOTHING: Mapping[str, Any] = {}


def make_usage(
    figures: dict[str, float],
    *,
    sources: Mapping[str, Source],
    missing: Mapping[str, str],
    upper_bounds: tuple[str, ...] = (),
    lower_bound: bool = False,
    disagreements: Mapping[str, str] = _NOTHING,
    before_test: Mapping[str, float] = _NOTHING,
) -> Usage:
    """Return the usage with these figures, by their field names; parts are lowered to their whole.

    `upper_bounds` names figures that are upper bounds only; with `lower_bound`, the memory peak is a lower bound.
    """
    cap_parts(figures)
    return Usage(
        **figures,  # type: ignore[arg-type]  # the names are Usage's own, seconds float, the others int
        sources=sources,
        missing=missing,
        memory_peak_is_upper_bound=MEMORY_PEAK in upper_bounds,
        memory_peak_is_lower_bound=lower_bound,
        upper_bounds=upper_bounds,
        disagreements=disagreements,
        before_test=before_test,
    )


# 10,000 tests are kept to the end of a run, so those with equal sources and reasons share one mapping each.


@lru_cache(maxsize=256)
def shared_sources(sources: tuple[tuple[str, Source], ...]) -> Mapping[str, Source]:
    """Return a mapping of figures to their sources; the caller must not change it."""
    return dict(sources)


@lru_cache(maxsize=256)
def shared_reasons(
    present: tuple[str, ...], reasons: tuple[tuple[str, str], ...], default: str
) -> Mapping[str, str]:
    """Return why each figure is missing that is not `present`; the caller must not change it."""
    known = dict(reasons)
    return {name: known.get(name, default) for name in FIGURES if name not in present}
