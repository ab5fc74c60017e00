"""Measures one slot: the parent cgroup that outlives its container, the samples, the agent's counters.

Joins what `measure` parses; a figure's best source wins there.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine.outside import signal_all
from orchestrator.engine.stats import StatsFeed
from orchestrator.measure import cgroups, processes, usage
from orchestrator.measure.peaks import FreshPeak
from orchestrator.measure.series import SeriesReader
from orchestrator.model import Source

if TYPE_CHECKING:
    from orchestrator.engine.base import ContainerEngine
    from orchestrator.engine.reading import SlotRun
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model import EngineInfo, Sample, Usage

CGROUP_PREFIX = "orch-"
"""Slots' cgroups stand side by side at the top: a common one above them could not be removed by one run without
breaking the start of another's container.
"""


def can_own_cgroups(info: EngineInfo) -> bool:
    """True where a slot can have a parent cgroup that we may read and remove: the engine's kernel is ours, we
    are root, and the engine makes cgroups by path. Elsewhere the agent's record has the same counters.
    """
    return info.local and not info.rootless and os.geteuid() == 0 and info.cgroup_driver == "cgroupfs"


class Meter:
    """One slot's figures. Made before its container, closed after its removal."""

    def __init__(self, engine: ContainerEngine, sampler: Sampler, run_id: str, number: int) -> None:
        info = engine.info
        self._engine = engine
        self._feed: StatsFeed | None = None
        self._version = info.cgroup_version or 1
        self._local = info.local
        self._sampler = sampler
        self.parent: str | None = f"/{CGROUP_PREFIX}{run_id[:8]}-{number}" if can_own_cgroups(info) else None
        self._paths: cgroups.CgroupPaths | None = None
        self._own: cgroups.CgroupPaths | None = None
        self._start: cgroups.Counters | None = None
        self._last: cgroups.Counters | None = None
        self._key: str | None = None
        self._fresh: FreshPeak | None = None
        self._own_fresh: FreshPeak | None = None

    def begin(self, container_id: str, key: str, *, running: bool = False) -> None:
        """A test starts: from here on everything that is counted is its own. `key` names its samples.
        `running`: it has started with its container, whose start-up is counted with it then.
        """
        self._last = None
        if self._local:
            self._begin_cgroups(container_id, running=running)
        seen = self._own or self._paths
        own = self._own
        self._key = key
        if seen is None:
            self._feed = StatsFeed(self._engine, container_id)
            self._sampler.add(key, self._feed)
        else:
            count = None if own is None else lambda: processes.count(cgroups.process_ids(own))
            self._sampler.add(key, SeriesReader(seen), count)

    def _begin_cgroups(self, container_id: str, *, running: bool) -> None:
        if self.parent is not None:
            self._paths = cgroups.locate(self.parent, self._version)
            if self._paths is not None and not running:
                self._start = cgroups.read(self._paths)
                self._fresh = FreshPeak.start(self._paths)
        self._own = self._locate_own(container_id)
        if self._own is not None and not running:
            self._own_fresh = FreshPeak.start(self._own)

    def _locate_own(self, container_id: str) -> cgroups.CgroupPaths | None:
        """The container's own cgroup, by the engines' ways to name it."""
        parents = [f"{self.parent}/"] if self.parent else ["/docker/", "/system.slice/docker-"]
        for parent in parents:
            end = ".scope" if parent.endswith("docker-") else ""
            found = cgroups.locate(f"{parent}{container_id}{end}", self._version)
            if found is not None:
                return found
        return None

    def signal(self, name: str) -> bool:
        """Send TERM or KILL to the test's processes; False where they cannot be seen from here."""
        return self._own is not None and signal_all(self._own, name)

    def look(self) -> None:
        """Read the container's own cgroup before a kill takes it away: throttling and v1's OOM kills are only
        there. Where it cannot be read, the engine is asked.
        """
        if self._own is not None:
            self._last = cgroups.read(self._own)
        elif self._feed is not None:
            self._feed.one_shot()

    def samples(self) -> tuple[Sample, ...]:
        """The series of the test that has ended."""
        key, self._key = self._key, None
        return () if key is None else self._sampler.take(key)

    def usage(self, run: SlotRun | None, samples: tuple[Sample, ...], *, reason: str | None) -> Usage:
        """What the test used; `reason`: why there may be nothing to see."""
        kernel = cgroups.read(self._paths) if self._paths is not None else None
        if kernel is not None and self._fresh is not None:
            kernel = replace(kernel, memory_peak_bytes=self._fresh.read())
        begin = cgroups.parse_agent(run.begin_counters) if run and run.begin_counters else None
        end = cgroups.parse_agent(run.end_counters) if run and run.end_counters else None
        if reason is None and (run is None or run.record is None):
            reason = "the container ended without the agent's record"
        return usage.combine(
            kernel=kernel,
            kernel_start=self._start,
            peaks_reset=(self._fresh is not None, self._own_fresh is not None and self._own_fresh.shared),
            archived=bool(run and (run.outputs or run.outputs_notes)),
            container=self._last,
            agent_start=begin,
            agent_end=end,
            stats=None if self._feed is None else self._feed.newest,
            samples_source=Source.KERNEL if self._feed is None else Source.STATS,
            samples=samples,
            reason=reason,
        )

    def close(self) -> None:
        """Remove the cgroup; the container must be gone."""
        self.samples()
        for fresh in (self._fresh, self._own_fresh):
            if fresh is not None:
                fresh.close()
        if self._paths is None and self.parent is not None:
            self._paths = cgroups.locate(self.parent, self._version)
        if self._paths is not None and self.parent is not None:
            cgroups.remove(self._paths)
