"""What tests are ranked by and reported on. Apart from `model_reports`, because `orch --help` names them too."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Unit = Literal["bytes", "seconds", "count", "ratio"]
"""Unit of a figure whose name alone does not say it."""


class Resource(StrEnum):
    """What tests are ranked by and reported on, in the words of `--by` and `--resource`."""

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
        """Its name in JSON and CSV."""
        return "memory_peak" if self is Resource.MEMORY else self.value.replace("-", "_")

    @property
    def unit(self) -> Unit:
        """Of its figures; ratios are of the limit."""
        match self:
            case Resource.CPU | Resource.DURATION | Resource.THROTTLED:
                return "seconds"
            case Resource.MEMORY_RATIO | Resource.TIME_RATIO:
                return "ratio"
            case Resource.PIDS:
                return "count"
            case _:
                return "bytes"


HEADLINES = (Resource.MEMORY, Resource.CPU, Resource.DURATION, Resource.MEMORY_RATIO)
"""What is told of each test unless something else is asked for; the database answers these fastest."""
