"""Violations: budgets that a test broke, with their kinds and severities."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(StrEnum):
    """Severity of a violation."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Position in a list with the most severe first: 0 for an error."""
        return _SEVERITY_RANKS[self]


_SEVERITY_RANKS = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}


class ViolationKind(StrEnum):
    """The budget that was broken."""

    MEMORY_NEAR = "memory-near"
    MEMORY_OVER = "memory-over"
    MEMORY_GROWTH = "memory-growth"
    CHILD_OOM = "child-oom"
    CPU_BUDGET = "cpu-budget"
    CPU_THROTTLED = "cpu-throttled"
    TIME_NEAR = "time-near"
    TIME_OVER = "time-over"
    OVERSIZED = "oversized"
    PIDS_LIMIT = "pids-limit"
    FD_LEAK = "fd-leak"
    THREAD_LEAK = "thread-leak"
    PROCESS_LEAK = "process-leak"
    FILE_LEAK = "file-leak"
    IPC_LEAK = "ipc-leak"
    TMPFS_FULL = "tmpfs-full"
    DISK_WRITE = "disk-write"
    OUTPUT_FLOOD = "output-flood"
    OBJECT_LEAK = "object-leak"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken budget. A test can pass and still have violations."""

    kind: ViolationKind
    severity: Severity
    measured: float
    limit: float
    unit: str
    """Unit of `measured` and `limit`: bytes, seconds, count or ratio."""
    message: str
    """One sentence for the user."""


def by_severity(violations: Iterable[Violation]) -> list[Violation]:
    """Return the violations, most severe first; equally severe ones keep their order."""
    return sorted(violations, key=lambda violation: violation.severity.rank)
