"""Resets the memory peak of a cgroup, so that the peak does not include the runtime's start.

cgroup v1: writing to `memory.max_usage_in_bytes` resets it for all readers; root may. cgroup v2, from kernel
6.12: writing to `memory.peak` resets it for that open descriptor only. Peaks of pids cannot be reset.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.measure.cgroups import CgroupPaths

_FILE = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}


class ResettablePeak:
    """The memory peak of a cgroup since `start`. If `shared`, other readers of the file see the reset too."""

    def __init__(self, descriptor: int, *, shared: bool) -> None:
        self._descriptor: int | None = descriptor
        self.shared = shared

    @classmethod
    def start(cls, paths: CgroupPaths) -> ResettablePeak | None:
        """Reset the peak of a cgroup now; return None if this kernel or this user cannot."""
        name = _FILE[paths.version]
        for folder in paths.folders:
            path = str(Path(folder, name))
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                os.write(descriptor, b"0")
            except OSError:
                os.close(descriptor)
                return None
            return cls(descriptor, shared=paths.version == 1)
        return None

    def reset(self) -> None:
        """Reset the peak again; nothing happens once the cgroup is gone."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.pwrite(self._descriptor, b"0", 0)

    def read(self) -> int | None:
        """Return the peak in bytes; None if the cgroup is gone, or this was closed."""
        if self._descriptor is None:
            return None
        try:
            text = os.pread(self._descriptor, 64, 0)
        except OSError:
            return None
        return int(text) if text.strip().isdigit() else None

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
