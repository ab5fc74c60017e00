"""Resources by which tests are ranked and reported. A module of its own because `orch --help` needs it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Unit = Literal["bytes", "seconds", "count", "ratio"]
"""Unit of a figure whose name does not state it."""


class Resource(StrEnum):
    """A resource, by its name in `--by` and `--resource`."""

    MEMORY = "memory"
    CPU = "cpu"
    DURATION = "duration"
    MEMORY_RATIO = "memory-ratio"
    TIME_RATIO = "time-ratio"
    PIDS = "pids"
    THROTTLED = "throttled"
    ANON = "anon"
    SHMEM = "shmem"
    READ = "read"
    WRITE = "write"
    OUTPUT = "output"

    @property
    def key(self) -> str:
        """Name of the resource in JSON and CSV."""
        return "memory_peak" if self is Resource.MEMORY else self.value.replace("-", "_")

    @property
    def unit(self) -> Unit:
        """Unit of the resource's figures; a ratio is a share of the limit."""
        match self:
            case Resource.CPU | Resource.DURATION | Resource.THROTTLED:
                return "seconds"
            case Resource.MEMORY_RATIO | Resource.TIME_RATIO:
                return "ratio"
            case Resource.PIDS:
                return "count"
            case _:
                return "bytes"


DEFAULT_RESOURCES = (Resource.MEMORY, Resource.CPU, Resource.DURATION, Resource.MEMORY_RATIO)
"""Resources that are reported unless others are requested; the database has indexes and sums for them."""
