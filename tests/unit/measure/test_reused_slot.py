"""Figures of tests that share a container, where the next one has begun before anybody has looked from outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.measure.counters import Counters
from orchestrator.measure.reused_slot import (
    AGENT_FILES_V1,
    CounterSnapshot,
    SnapshotWindow,
    agent_counters,
    window_usage,
)
from orchestrator.model.usage import Source

MIB = 1 << 20


def window(*, agent_peaks: tuple[int | None, int | None], peaks: tuple[int | None, int | None]) -> SnapshotWindow:
    """One on cgroup v1 if the agent can see peaks, else on v2: MiB before and after it, by the agent, by looks."""
    before, after = (None if peak is None else peak * MIB for peak in agent_peaks)
    early, late = (None if peak is None else peak * MIB for peak in peaks)
    seen = Counters(memory_bytes=2 * MIB, pids_peak=3, anon_bytes=MIB, file_bytes=MIB, shmem_bytes=0)
    return SnapshotWindow(
        agent_before=Counters(cpu_seconds=1.0, memory_bytes=MIB, memory_peak_bytes=before),
        agent_after=Counters(cpu_seconds=1.5, memory_bytes=MIB, memory_peak_bytes=after),
        before=CounterSnapshot(seen, early, after is not None),
        after=CounterSnapshot(seen, late, after is not None),
    )


def test_alone_the_agents_reading_counts() -> None:
    # before it the peak was set back in peace: whatever it had been is not this test's
    assert window(agent_peaks=(50, 4), peaks=(60, 4)).charged_peak() == (4 * MIB, 4 * MIB)


@pytest.mark.parametrize(
    ("agent_peaks", "peaks", "seconds", "expected"),
    [
        ((50, 4), (50, 4), 0.6, (4, 4)),  # set back after it began: less than before, so it was in time
        ((50, 4), (55, 4), 0.6, (55, 55)),  # what rose after the agent had read the one before was this one
        ((4, 50), (4, 50), 0.6, (50, 50)),
        ((50, 50), (50, 50), 0.6, (50, 50)),  # as much as the one before, and that since it was set back
        ((50, 50), (50, 4), 0.6, (50, 4)),  # read before it was set back: at most so much
        ((50, 50), (55, 4), 0.6, (55, 55)),
        ((50, 4), (50, 4), 0.1, (50, 4)),  # set back near its end: it may have needed as much as the one before
        ((50, 4), (55, 4), 0.1, (55, 55)),
        ((4, 50), (4, 50), 0.1, (50, 50)),  # late or not: more than the one before
    ],
)
def test_a_peak_that_is_set_back_while_the_test_runs(
    agent_peaks: tuple[int, int], peaks: tuple[int, int], seconds: float, expected: tuple[int, int]
) -> None:
    """It takes half a second of CPU."""
    made = replace(window(agent_peaks=agent_peaks, peaks=peaks), overlapped=True, seconds=seconds)
    assert made.charged_peak() == (expected[0] * MIB, expected[1] * MIB)


@pytest.mark.parametrize(
    ("peaks", "changes", "expected"),
    [
        ((50, 30), {}, (30, 30)),
        ((50, 30), {"next_released": True}, (30, 30)),  # far above what is charged: not the next one's
        ((50, 2), {"next_released": True}, (2, 0)),  # what is charged is the next one's, and may be the peak
        ((50, 2), {}, (2, 2)),
        ((50, 30), {"overlapped": True, "seconds": 0.6}, (30, 30)),
        ((50, 30), {"overlapped": True, "seconds": 0.1}, (50, 30)),  # looked at too late: of two tests
    ],
)
def test_a_peak_that_only_we_can_see(
    peaks: tuple[int, int], changes: dict[str, Any], expected: tuple[int, int]
) -> None:
    made = replace(window(agent_peaks=(None, None), peaks=peaks), **changes)
    assert made.charged_peak() == (expected[0] * MIB, expected[1] * MIB)


def test_what_the_agent_reads_of_a_containers_whole_life_is_no_tests_peak() -> None:
    """cgroup v2: before a container's first test the agent reads all there is, memory.peak too."""
    first = window(agent_peaks=(12, 15), peaks=(12, 2))
    first = replace(first, after=replace(first.after, peak_is_shared=False))
    assert first.charged_peak() == (2 * MIB, 2 * MIB)
    assert window_usage(first, ()).sources["memory_peak_bytes"] is Source.KERNEL


def test_usage_says_whose_figures_they_are() -> None:
    usage = window_usage(window(agent_peaks=(50, 4), peaks=(50, 4)), ())
    assert usage.cpu_seconds == 0.5
    assert (usage.memory_charged_peak_bytes, usage.memory_floor_bytes) == (4 * MIB, MIB)
    assert (usage.memory_peak_bytes, usage.page_cache_bytes) == (3 * MIB, 0)
    assert usage.sources["memory_peak_bytes"] is Source.AGENT
    assert usage.upper_bounds == ("pids_peak",)
    from_outside = window_usage(window(agent_peaks=(None, None), peaks=(50, 4)), ())
    assert from_outside.sources["memory_peak_bytes"] is Source.KERNEL
    assert window_usage(window(agent_peaks=(None, None), peaks=(None, None)), ()).missing["memory_peak_bytes"]


def test_a_peak_that_may_be_the_neighbours_is_a_bound_unless_it_hardly_matters() -> None:
    late = replace(window(agent_peaks=(50, 4), peaks=(50, 4)), overlapped=True, seconds=0.1)
    usage = window_usage(late, ())
    assert (usage.memory_peak_bytes, usage.memory_peak_is_upper_bound) == (49 * MIB, True)
    assert "memory_peak_bytes" in usage.upper_bounds
    slight = replace(window(agent_peaks=(4, 3), peaks=(4, 3)), overlapped=True, seconds=0.1)
    assert not window_usage(slight, ()).memory_peak_is_upper_bound


def test_what_a_test_ended_stood_before_it_all_the_same() -> None:
    """A process left has the agent end the server too: that is no memory which the test before gave back late."""
    seen = window(agent_peaks=(40, 42), peaks=(40, 42))
    gone = replace(seen, agent_before=replace(seen.agent_before, memory_bytes=34 * MIB))
    assert gone.floor_bytes == MIB
    gone = replace(gone, ended_others=True)
    assert gone.floor_bytes == 34 * MIB
    assert window_usage(gone, ()).memory_peak_bytes == 8 * MIB


def test_the_agents_reading() -> None:
    text = "".join(
        f"@{path}\n{number}\n" for path, number in zip(AGENT_FILES_V1, (2_500_000_000, 7, 5), strict=True)
    )
    assert agent_counters(text) == Counters(cpu_seconds=2.5, memory_peak_bytes=7, memory_bytes=5)
    on_v2 = agent_counters("@/sys/fs/cgroup/cpu.stat\nusage_usec 2500000\n@/sys/fs/cgroup/memory.current\n5\n")
    assert (on_v2.cpu_seconds, on_v2.memory_bytes, on_v2.memory_peak_bytes) == (2.5, 5, None)
    assert agent_counters("") == Counters()
