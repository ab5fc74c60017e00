"""CASES B3: whatever was read where, and whatever was taken off, no part is more than its whole."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.measure.calibration import Calibration, corrected
from orchestrator.measure.counters import Counters
from orchestrator.measure.parts import cap_parts
from orchestrator.measure.reused_slot import CounterSnapshot, SnapshotWindow, window_usage
from orchestrator.measure.usage import combine
from orchestrator.model.usage import Sample, Source, Usage

SECONDS = st.none() | st.sampled_from([0.0, 0.004, 0.01]) | st.floats(0, 1000)
BYTES = st.none() | st.integers(0, 1 << 40)
FEW = st.none() | st.integers(0, 100)


def _of(kind: type, *, but: tuple[str, ...] = (), **fixed: Any) -> st.SearchStrategy[Any]:
    """Any figures of a kind of reading, each there or not."""
    found: dict[str, Any] = dict(fixed)
    for field in fields(kind):
        name = field.name
        if name in but or name in found:
            continue
        found[name] = BYTES if name.endswith("_bytes") else SECONDS if name.endswith("_seconds") else FEW
    return st.builds(kind, **found)


COUNTERS = _of(Counters, events_are_local=st.booleans())
SAMPLES = st.lists(_of(Sample, at_seconds=st.floats(0, 10)), max_size=3)
COMBINED = st.builds(
    combine,
    kernel=st.none() | COUNTERS,
    kernel_start=st.none() | COUNTERS,
    container=st.none() | COUNTERS,
    agent_start=st.none() | COUNTERS,
    agent_end=st.none() | COUNTERS,
    stats=st.none() | COUNTERS,
    reason=st.none(),
    samples=SAMPLES,
    peaks_reset=st.tuples(st.booleans(), st.booleans()),
)
SNAPSHOTS = st.builds(CounterSnapshot, COUNTERS, BYTES, st.booleans(), st.just(0.0))
WINDOWS = st.builds(
    window_usage,
    st.builds(
        SnapshotWindow,
        agent_before=COUNTERS,
        agent_after=COUNTERS,
        before=SNAPSHOTS,
        after=SNAPSHOTS,
        overlapped=st.booleans(),
        seconds=st.floats(0, 10),
        next_released=st.booleans(),
    ),
    SAMPLES,
)
COST = st.floats(0, 1)
CALIBRATIONS = st.none() | st.builds(
    Calibration,
    runs=st.just(5),
    source=st.sampled_from(Source),
    cpu_seconds=COST,
    cpu_user_seconds=st.none() | COST,
    cpu_system_seconds=st.none() | COST,
    cpu_spread_seconds=COST,
    memory_floor_bytes=st.none(),
    memory_rise_bytes=st.none(),
    start_cpu_seconds=st.none(),
    start_memory_peak_bytes=st.none(),
    start_pids_peak=st.none(),
)


def check(usage: Usage) -> None:
    figures = {field.name: getattr(usage, field.name) for field in fields(usage)}
    for name, value in figures.items():
        if name.endswith(("_bytes", "_seconds", "_peak", "_kills", "_hits", "_periods")):
            assert value is None or value >= 0, name
    parts = [figures[name] or 0 for name in ("cpu_user_seconds", "cpu_system_seconds")]
    if usage.cpu_seconds is not None:
        assert sum(parts) <= usage.cpu_seconds * (1 + 1e-12)
    whole = figures.get("memory_charged_peak_bytes", usage.memory_peak_bytes)
    if whole is not None:
        for name in ("memory_peak", "memory_floor", "page_cache", "anon_peak", "file_peak", "shmem_peak"):
            assert (figures.get(f"{name}_bytes") or 0) <= whole, name
    if usage.file_peak_bytes is not None:
        assert (usage.shmem_peak_bytes or 0) <= usage.file_peak_bytes


@given(st.one_of(COMBINED, WINDOWS), CALIBRATIONS)
def test_parts_are_within_their_whole(usage: Usage, calibration: Calibration | None) -> None:
    check(usage)
    check(corrected(usage, calibration))


def test_a_shell_test_that_does_nothing_uses_nothing_in_the_kernel_either() -> None:
    """As it was seen: 4 ms in the kernel of 0.0 in all, as only the total was known to the calibration."""
    usage = Usage(
        cpu_seconds=0.004,
        cpu_user_seconds=0.0,
        cpu_system_seconds=0.004,
        sources={"cpu_seconds": Source.AGENT, "cpu_system_seconds": Source.KERNEL},
    )
    calibration = Calibration(
        runs=5,
        source=Source.AGENT,
        cpu_seconds=0.006,
        cpu_user_seconds=None,
        cpu_system_seconds=None,
        cpu_spread_seconds=0.001,
        memory_floor_bytes=None,
        memory_rise_bytes=None,
        start_cpu_seconds=None,
        start_memory_peak_bytes=None,
        start_pids_peak=None,
    )
    found = corrected(usage, calibration)
    assert (found.cpu_seconds, found.cpu_user_seconds, found.cpu_system_seconds) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ({"cpu_seconds": 1.0, "cpu_user_seconds": 3.0, "cpu_system_seconds": 1.0}, (0.75, 0.25)),
        ({"cpu_seconds": 1.0, "cpu_user_seconds": 0.5, "cpu_system_seconds": 0.25}, (0.5, 0.25)),
        ({"cpu_seconds": 1.0, "cpu_user_seconds": 3.0}, (1.0, None)),
        ({"cpu_user_seconds": 3.0, "cpu_system_seconds": 1.0}, (3.0, 1.0)),
    ],
)
def test_user_and_system_keep_their_proportion(
    given_: dict[str, float], kept: tuple[float | None, float | None]
) -> None:
    figures = dict(given_)
    cap_parts(figures)
    assert (figures.get("cpu_user_seconds"), figures.get("cpu_system_seconds")) == kept
