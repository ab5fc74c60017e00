"""Measures one slot: the parent cgroup that outlives its container, the samples, the agent's counters.

Joins what `measure` parses; a figure's best source wins there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.measure import cgroups, usage
from orchestrator.measure.series import SeriesReader

if TYPE_CHECKING:
    from orchestrator.engine.slot import SlotRun
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model import EngineInfo, Sample, Usage

CGROUP_ROOT = "/orch"


def can_own_cgroups(info: EngineInfo) -> bool:
    """True where a slot can have a parent cgroup that we may read and remove: the engine's kernel is ours, we
    are root, and the engine makes cgroups by path. Elsewhere the agent's record has the same counters.
    """
    return info.local and not info.rootless and os.geteuid() == 0 and info.cgroup_driver == "cgroupfs"


class Meter:
    """One slot's figures. Made before its container, closed after its removal."""

    def __init__(self, info: EngineInfo, sampler: Sampler, run_id: str, number: int) -> None:
        self._version = info.cgroup_version or 1
        self._sampler = sampler
        self.parent: str | None = f"{CGROUP_ROOT}/{run_id[:8]}-{number}" if can_own_cgroups(info) else None
        self._paths: cgroups.CgroupPaths | None = None
        self._start: cgroups.Counters | None = None
        self._key: str | None = None

    def begin(self, container_id: str, key: str) -> None:
        """A test starts: from here on everything that is counted is its own. `key` names its samples."""
        if self.parent is None:
            return
        self._paths = cgroups.locate(self.parent, self._version)
        own = cgroups.locate(f"{self.parent}/{container_id}", self._version) or self._paths
        if self._paths is None or own is None:
            return
        self._start = cgroups.read(self._paths)
        self._key = key
        self._sampler.add(key, SeriesReader(own))

    def samples(self) -> tuple[Sample, ...]:
        """The series of the test that has ended."""
        key, self._key = self._key, None
        return () if key is None else self._sampler.take(key)

    def usage(self, run: SlotRun | None, samples: tuple[Sample, ...], *, reason: str | None) -> Usage:
        """What the test used; `reason`: why there may be nothing to see."""
        kernel = cgroups.read(self._paths) if self._paths is not None else None
        begin = cgroups.parse_agent(run.begin_counters) if run and run.begin_counters else None
        end = cgroups.parse_agent(run.end_counters) if run and run.end_counters else None
        return usage.combine(
            kernel=kernel,
            kernel_start=self._start,
            container=None,
            agent_start=begin,
            agent_end=end,
            stats=None,
            samples=samples,
            reason=reason or "the container ended without the agent's record",
        )

    def close(self) -> None:
        """Remove the cgroup; the container must be gone."""
        self.samples()
        if self._paths is None and self.parent is not None:
            self._paths = cgroups.locate(self.parent, self._version)
        if self._paths is not None:
            cgroups.remove(self._paths)
