"""Measures one slot by its parent cgroup, by samples of the container, and by the agent's counters.

The parent cgroup remains after the container. `measure.usage` chooses the best source of each figure.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine.isolation.kernel_view import read_process
from orchestrator.engine.metering.cgroup_signals import signal_all
from orchestrator.engine.metering.parent_cgroups import can_own_cgroups, parent_of_slot
from orchestrator.engine.metering.stats_feed import StatsFeed
from orchestrator.measure import cgroups, processes, usage
from orchestrator.measure.cgroup_reader import SeriesReader
from orchestrator.measure.cpu_wait import CpuWait
from orchestrator.measure.own_memory import cache_of
from orchestrator.measure.peak_reset import ResettablePeak
from orchestrator.measure.reused_slot import SnapshotReader
from orchestrator.model.usage import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engine.agent.output_reader import SlotOutput
    from orchestrator.engine.base import ContainerEngine
    from orchestrator.engine.isolation.kernel_view import KernelView
    from orchestrator.measure.reused_slot import CounterSnapshot
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model.runs import EngineInfo
    from orchestrator.model.usage import Sample, Usage

__all__ = ["SlotMeter", "can_own_cgroups"]


class SlotMeter:
    """Measures one slot. Create it before the container, and close it after the container's removal."""

    def __init__(self, engine: ContainerEngine, sampler: Sampler, run_id: str, number: int) -> None:
        info = engine.info
        self._info = info
        self._engine = engine
        self._feed: StatsFeed | None = None
        self._version = info.cgroup_version or 1
        self._sampler = sampler
        self._slot_parent = parent_of_slot(info, run_id, number)
        self._leased = self._slot_parent is not None and self._slot_parent.lease is not None
        self._paths: cgroups.CgroupPaths | None = None
        self._own: cgroups.CgroupPaths | None = None
        self._start: cgroups.Counters | None = None
        self._last: cgroups.Counters | None = None
        self._key: str | None = None
        self._parent_peak: ResettablePeak | None = None
        self._own_peak: ResettablePeak | None = None
        self._snapshots: SnapshotReader | None = None
        self._cpu_wait: CpuWait | None = None
        if self._leased:  # the counters that earlier tests left in it, in case this test starts with its container
            self._start = self._read_parent()

    @property
    def parent(self) -> str | None:
        """The name of the container's parent cgroup for the engine; None if the engine chooses one."""
        return None if self._slot_parent is None else self._slot_parent.name

    def _read_parent(self) -> cgroups.Counters | None:
        if self._paths is None and self._slot_parent is not None:
            self._paths = self._slot_parent.locate()
        return None if self._paths is None else cgroups.read(self._paths)

    def begin(self, container_id: str, key: str, *, running: bool = False) -> None:
        """Start to measure a test that starts now; `key` is the key of its samples.

        `running` means that the test has started with its container, whose start is then included.
        """
        self._last = None
        if self._info.local:
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
        now = self._read_parent()
        for fresh in (self._parent_peak, self._own_peak):
            if fresh is not None:
                fresh.close()
        if not running:
            self._start = now
            if self._paths is not None and not self._leased:
                self._parent_peak = ResettablePeak.start(self._paths)
        self._own = self._own or self._locate_own(container_id)
        if self._own is not None and not running:
            self._own_peak = ResettablePeak.start(self._own)

    def _locate_own(self, container_id: str) -> cgroups.CgroupPaths | None:
        """Return the container's own cgroup, by the names that engines give it, or None."""
        for name in own_names(self._info, self.parent, container_id):
            found = cgroups.locate(name, self._version)
            if found is not None:
                return found
        return None

    def kernel_view(self, container_id: str) -> KernelView | None:
        """Return the kernel's view of the container's waiting process 1; None if it cannot be read here."""
        self._own = self._locate_own(container_id) if self._info.local else None
        for pid in () if self._own is None else cgroups.process_ids(self._own):
            found = read_process(pid)
            if found is not None and found.is_first:
                return found
        return None

    def begin_snapshots(self) -> bool:
        """Prepare to measure the container's next tests by `snapshot`; return False if it is impossible here."""
        if self._own is not None and self._own_peak is not None:
            self._snapshots = SnapshotReader.start(self._own)
        return self._snapshots is not None

    def snapshot(self) -> CounterSnapshot | None:
        """Return the counters between two tests, and reset the memory peak; None without `begin_snapshots`."""
        return None if self._snapshots is None else self._snapshots.snapshot()

    def begin_sampling(self, key: str, started: float) -> None:
        """Start to sample a test that began at `started` (monotonic seconds); `key` is the key of its samples."""
        own = self._own
        if own is not None:
            self._key = key
            self._sampler.add(
                key, SeriesReader(own), lambda: processes.count(cgroups.process_ids(own)), since=started
            )

    def begin_cpu_wait(self, cpus: float) -> None:
        """Start to measure how long the running test waits for CPUs, of which it may use `cpus` at once.

        Call `take_cpu_wait` before the next test begins.
        """
        if self._own is not None:
            usable = min(cpus, self._info.cpus or cpus)
            self._cpu_wait = CpuWait(self._own, self._paths, cpus=usable)

    def waited_seconds(self) -> float:
        """Return the seconds in which the test could not run so far because others used the CPUs; 0 if unknown."""
        return 0.0 if self._cpu_wait is None else self._cpu_wait.seconds()

    def take_cpu_wait(self) -> CpuWait | None:
        """Return the CPU wait of the ended test; None if the test was too short, or it cannot be read here."""
        waits, self._cpu_wait = self._cpu_wait, None
        return waits

    def unreclaimable_bytes(self) -> int | None:
        """Return the charged memory without reclaimable page cache; None if it cannot be read."""
        if self._own is None:
            return None
        now = cgroups.read(self._own, series=True)
        cache = cache_of(now)
        return None if now.memory_bytes is None or cache is None else max(0, now.memory_bytes - cache)

    def memory_limit_bytes(self) -> int | None:
        """Return the container's memory limit in the kernel; None if it cannot be read here."""
        return None if self._own is None else cgroups.memory_limit(self._own)

    def signal(self, name: str) -> bool:
        """Send TERM or KILL to the test's processes; return False if no process could be reached from here."""
        return self._own is not None and signal_all(self._own, name)

    def read_before_kill(self) -> None:
        """Read the container's own cgroup before a kill removes it, or else the engine's statistics.

        Only that cgroup counts throttling, and on v1 OOM kills.
        """
        if self._own is not None:
            self._last = cgroups.read(self._own)
        elif self._feed is not None:
            self._feed.one_shot()

    def thaw(self) -> bool:
        """Let the container run again if another program has frozen its cgroup; return whether it was frozen."""
        for paths in (self._own, self._paths):
            if paths is not None and cgroups.is_frozen(paths):
                cgroups.thaw(paths)
                return True
        return False

    def samples(self) -> tuple[Sample, ...]:
        """End the sampling of the test, and return its samples."""
        key, self._key = self._key, None
        return () if key is None else self._sampler.take(key)

    def usage(self, run: SlotOutput | None, samples: tuple[Sample, ...], *, reason: str | None) -> Usage:
        """Return the test's usage; `reason` says why figures may be missing."""
        kernel = self._read_parent()
        if kernel is not None and self._parent_peak is not None:
            kernel = replace(kernel, memory_peak_bytes=self._parent_peak.read())
        begin = cgroups.parse_agent(run.begin_counters) if run and run.begin_counters else None
        end = cgroups.parse_agent(run.end_counters) if run and run.end_counters else None
        if reason is None and (run is None or run.record is None):
            reason = "the container ended without the agent's record"
        only_parent = self._last is None and end is None
        if self._leased and kernel is not None and not only_parent:
            # its peaks may be another test's, or include page cache that another test has left
            kernel = replace(kernel, memory_peak_bytes=None, swap_peak_bytes=None, pids_peak=None)
        found = usage.combine(
            kernel=kernel,
            kernel_start=self._start,
            peaks_reset=(self._parent_peak is not None, self._own_peak is not None and self._own_peak.shared),
            archived=bool(run and (run.outputs or run.outputs_notes)),
            container=self._last,
            agent_start=begin,
            agent_end=end,
            stats=None if self._feed is None else self._feed.newest,
            samples_source=Source.KERNEL if self._feed is None else Source.STATS,
            samples=samples,
            reason=reason,
        )
        if self._leased and only_parent and found.memory_peak_bytes is not None:
            found = replace(found, memory_peak_is_upper_bound=True)
        return found

    def close(self) -> None:
        """Remove or release the parent cgroup; the container must be gone."""
        self.samples()
        for fresh in (self._parent_peak, self._own_peak, self._snapshots):
            if fresh is not None:
                fresh.close()
        if self._slot_parent is not None:
            self._slot_parent.close()
            self._slot_parent = None


def own_names(info: EngineInfo, parent: str | None, container_id: str) -> Iterator[str]:
    """Yield the names that a container's own cgroup may have, by engine and driver."""
    if info.name == "podman":
        scope = f"libpod-{container_id}.scope"
        user = os.geteuid()
        slices = [f"/user.slice/user-{user}.slice/user@{user}.service/user.slice"] if info.rootless else []
        for above in (*slices, "/machine.slice"):
            yield f"{above}/{scope}/container"  # crun puts the processes into this one
            yield f"{above}/{scope}"
        yield f"/libpod_parent/libpod-{container_id}"
        return
    scope = f"docker-{container_id}.scope"
    if info.rootless:
        user = os.geteuid()
        yield f"/user.slice/user-{user}.slice/user@{user}.service/user.slice/{scope}"
    if info.cgroup_driver == "systemd":
        yield f"/{(parent or 'system.slice').strip('/')}/{scope}"
    else:
        yield f"{parent or '/docker'}/{container_id}"
