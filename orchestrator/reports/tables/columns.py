"""Columns and cells that several tables share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.tables.table import Column, Figure

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.model.usage import Usage

TEST = Column(key="test", title="test", flexible=True)
PROFILE = Column(key="profile", title="profile", optional=True)
OUTCOME = Column(key="outcome", title="outcome")
OUTCOME_IF_WIDE = Column(key="outcome", title="outcome", optional=True)
MEMORY = Column(key="memory_peak_bytes", title="memory", right=True, bounded=True)
SHARED_IF_WIDE = Column(key="memory_floor_bytes", title="shared", right=True, optional=True)
LIMIT = Column(key="limit_memory_bytes", title="limit", right=True, optional=True)
RATIO = Column(key="memory_ratio", title="of limit", right=True)
CPU = Column(key="cpu_seconds", title="cpu", right=True)
CPU_IF_WIDE = Column(key="cpu_seconds", title="cpu", right=True, optional=True)
DURATION = Column(key="duration_seconds", title="duration", right=True)
RUN = Column(key="run", title="run")
RUN_IF_WIDE = Column(key="run", title="run", optional=True)


def count(key: str, title: str | None = None, *, optional: bool = False, priority: int = 0) -> Column:
    """Return a column of numbers, aligned to the right. `priority` as in `Column`."""
    return Column(key=key, title=title or key, right=True, optional=optional, priority=priority)


def in_bytes(value: float | None) -> Figure:
    """Return a figure in bytes; None: not measured."""
    return Figure(value, "bytes")


def in_seconds(value: float | None) -> Figure:
    """Return a figure in seconds; None: not measured."""
    return Figure(value, "seconds")


def as_ratio(value: float | None) -> Figure:
    """Return a ratio as a figure; None: not measured."""
    return Figure(value, "ratio")


def number(value: float | None) -> Figure:
    """Return a count as a figure; None: not measured."""
    return Figure(value, "count")


def time_text(moment: datetime) -> str:
    """Format a UTC time to the minute."""
    return moment.strftime("%Y-%m-%dT%H:%MZ")


def in_own_memory(usage: Usage) -> Figure:
    """Return the peak of a test's own memory, marked if it is only a bound."""
    return Figure(
        usage.memory_peak_bytes, "bytes", usage.memory_peak_is_upper_bound, usage.memory_peak_is_lower_bound
    )


def figure_of(usage: Usage, name: str, unit: str) -> Figure:
    """Return the figure that `Usage` calls `name`, marked if it is only a bound."""
    if name == "memory_peak_bytes":
        return in_own_memory(usage)
    return Figure(getattr(usage, name), unit, name in usage.upper_bounds)
