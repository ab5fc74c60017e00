"""Columns and cells that several tables have in common."""

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
    """A column of numbers; `priority` as in `Column`."""
    return Column(key=key, title=title or key, right=True, optional=optional, priority=priority)


def in_bytes(value: float | None) -> Figure:
    """Bytes, or not measured."""
    return Figure(value, "bytes")


def in_seconds(value: float | None) -> Figure:
    """Seconds, or not measured."""
    return Figure(value, "seconds")


def as_ratio(value: float | None) -> Figure:
    """A share, or not measured."""
    return Figure(value, "ratio")


def number(value: float | None) -> Figure:
    """A count, or not measured."""
    return Figure(value, "count")


def time_text(moment: datetime) -> str:
    """To the minute, in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%MZ")


def in_own_memory(usage: Usage) -> Figure:
    """What a test itself needed of memory, or the bound that is known of it."""
    return Figure(
        usage.memory_peak_bytes, "bytes", usage.memory_peak_is_upper_bound, usage.memory_peak_is_lower_bound
    )


def figure_of(usage: Usage, name: str, unit: str) -> Figure:
    """A figure of a test by its name in Usage, marked where it is only a bound."""
    if name == "memory_peak_bytes":
        return in_own_memory(usage)
    return Figure(getattr(usage, name), unit, name in usage.upper_bounds)
