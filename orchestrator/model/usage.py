"""TO BE WRITTEN."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# ---------------------------------------------------------------- what was seen


class Source(StrEnum):
    """Where a figure comes from, best first."""

    KERNEL = "kernel"
    AGENT = "agent"
    STATS = "stats"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One point of a test's time series. Counters are totals since the test's start."""

    at_seconds: float
    """Since the test was released."""
    memory_bytes: int | None = None
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    cpu_seconds: float | None = None
    pids: int | None = None
    """Tasks: processes and threads, as the kernel's pids controller counts them."""
    processes: int | None = None
    threads: int | None = None
    """Of all processes together."""
    open_files: int | None = None
    """Descriptors of all processes together."""
    process_threads_max: int | None = None
    """Of the process that has the most."""
    process_open_files_max: int | None = None
    """Of the process that has the most."""
    read_bytes: int | None = None
    write_bytes: int | None = None
    throttled_seconds: float | None = None
    memory_pressure_ratio: float | None = None
    """PSI: share of the last 10 s in which some task waited for memory, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one attempt used, from start of the test to its end. None: not measured, `missing` says why."""

    cpu_seconds: float | None = None
    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    memory_peak_bytes: int | None = None
    """What the test itself needed at most beyond the floor: anonymous, shared and kernel memory, no page cache."""
    memory_floor_bytes: int | None = None
    """What stood charged before the test began: agent, what it was forked from, page cache of earlier tests."""
    memory_charged_peak_bytes: int | None = None
    """All that was charged to the container at once: floor, own memory and page cache."""
    page_cache_bytes: int | None = None
    """Page cache charged while it ran, which the kernel can take back: in no way needed."""
    anon_peak_bytes: int | None = None
    file_peak_bytes: int | None = None
    shmem_peak_bytes: int | None = None
    swap_peak_bytes: int | None = None
    pids_peak: int | None = None
    oom_kills: int | None = None
    pids_limit_hits: int | None = None
    """Forks refused by the pids limit."""
    throttled_periods: int | None = None
    throttled_seconds: float | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Figure's field name -> source, for each figure that is not None."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Figure's field name -> reason, for each figure that is None."""
    memory_peak_is_upper_bound: bool = False
    """True where the kernel's peak was as high before the test (runtime's start, an earlier test) and could not be
    reset.
    """
    memory_peak_is_lower_bound: bool = False
    """True where page cache was charged too, and nobody saw how much of the kernel's peak was of it."""
    upper_bounds: tuple[str, ...] = ()
    """Names of the peaks of which that is true."""
    disagreements: Mapping[str, str] = field(default_factory=dict)
    """Figure's field name -> sentence, where two sources differ by more than they may."""
    overheads: Mapping[str, float] = field(default_factory=dict)
    """Figure's field name -> what a test that does nothing costs here, subtracted from the figure."""
    before_test: Mapping[str, float] = field(default_factory=dict)
    """Figure's field name -> what the container had used when the test was released; not in the figure."""


USAGE_NOTES = frozenset(
    {
        "sources",
        "missing",
        "memory_peak_is_upper_bound",
        "memory_peak_is_lower_bound",
        "upper_bounds",
        "disagreements",
        "overheads",
        "before_test",
    }
)
"""Names of Usage's fields that are no figures, but say something about them."""
