from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.measure.counters import Counters, parse_v1, parse_v2
from orchestrator.measure.usage import combine, parse_stats
from orchestrator.model.usage import USAGE_NOTES, Sample, Source, Usage

MIB = 1 << 20
KINDS: dict[str, Any] = {"anon_bytes": 0, "file_bytes": 0, "shmem_bytes": 0}
RECORDED = Path(__file__).parent / "recorded"
FIGURES = [f.name for f in fields(Usage) if f.name not in USAGE_NOTES]


def combined(
    *,
    kernel: Counters | None = None,
    kernel_start: Counters | None = None,
    container: Counters | None = None,
    agent_start: Counters | None = None,
    agent_end: Counters | None = None,
    stats: Counters | None = None,
    reason: str | None = None,
    samples: tuple[Sample, ...] = (),
    peaks_reset: tuple[bool, bool] = (False, False),
    archived: bool = False,
) -> Usage:
    return combine(
        kernel=kernel,
        kernel_start=kernel_start,
        container=container,
        agent_start=agent_start,
        agent_end=agent_end,
        stats=stats,
        reason=reason,
        samples=samples,
        peaks_reset=peaks_reset,
        archived=archived,
    )


def recorded(name: str) -> Counters:
    parse = parse_v1 if name.startswith("v1/") else parse_v2
    return parse({file.name: file.read_text() for file in (RECORDED / name).iterdir()})


def test_the_recorded_container_on_v2() -> None:
    usage = combined(kernel=recorded("v2/parent"), container=recorded("v2/container"))
    assert (usage.cpu_seconds, usage.memory_charged_peak_bytes, usage.swap_peak_bytes) == (16.156215, 67121152, 0)
    assert (usage.oom_kills, usage.pids_limit_hits) == (1, 1)
    assert (usage.throttled_periods, usage.throttled_seconds) == (215, 9.673713)  # the parent says 0 to both
    assert usage.write_bytes == 4194304
    parent_alone = combined(kernel=recorded("v2/parent"))
    assert (parent_alone.oom_kills, parent_alone.pids_limit_hits) == (1, 1)
    assert parent_alone.throttled_seconds is None


def test_the_recorded_container_on_v1() -> None:
    usage = combined(kernel=recorded("v1/parent"), container=recorded("v1/container"))
    assert usage.cpu_seconds == 1.032061242  # the parent's: it outlived the container
    assert usage.memory_charged_peak_bytes == 67371008
    assert (usage.oom_kills, usage.pids_limit_hits) == (1, 5)  # the parent says 0 to both
    assert usage.throttled_seconds == 0.932109543
    assert (usage.anon_peak_bytes, usage.shmem_peak_bytes) == (94208, 8388608)
    assert usage.missing["swap_peak_bytes"] == "cgroup v1 keeps no peak of swap"
    assert set(usage.sources.values()) == {Source.KERNEL}
    assert not usage.memory_peak_is_upper_bound


def test_a_v1_parent_alone_does_not_know_of_kills() -> None:
    usage = combined(kernel=recorded("v1/parent"))
    for name in ("oom_kills", "pids_limit_hits", "throttled_periods", "throttled_seconds"):
        assert getattr(usage, name) is None
        assert "own cgroup" in usage.missing[name]
    assert usage.anon_peak_bytes is None  # its 0 is of an empty cgroup
    assert usage.missing["anon_peak_bytes"] == "no sample was taken while the test ran"


def test_a_v2_parent_knows_of_kills_but_its_zero_of_refused_forks_says_nothing() -> None:
    usage = combined(kernel=Counters(oom_kills=0, pids_limit_hits=0, throttled_seconds=0.0))
    assert (usage.oom_kills, usage.pids_limit_hits, usage.throttled_seconds) == (0, None, None)
    assert combined(kernel=Counters(pids_limit_hits=4)).pids_limit_hits == 4


def test_the_agents_two_readings_enclose_the_test_and_its_peaks_are_the_parents() -> None:
    kernel, agent = Counters(cpu_seconds=1.51, pids_peak=9), Counters(cpu_seconds=1.5, pids_peak=8)
    usage = combined(kernel=kernel, agent_end=agent, stats=Counters(cpu_seconds=1.0))
    assert (usage.cpu_seconds, usage.pids_peak) == (1.5, 9)
    assert usage.sources == {"cpu_seconds": Source.AGENT, "pids_peak": Source.KERNEL}
    assert usage.disagreements == {}


def test_sources_that_disagree_are_reported_and_only_beyond_what_is_known_to_differ() -> None:
    kernel, agent = Counters(cpu_seconds=2.0, pids_peak=9), Counters(cpu_seconds=1.5, pids_peak=8)
    usage = combined(kernel=kernel, agent_end=agent)
    assert usage.disagreements == {
        "cpu_seconds": "2.000 s in the slot's parent cgroup, 1.500 s in the agent's record"
    }
    assert combined(kernel=kernel, agent_end=agent, archived=True).disagreements == {}


def test_a_peak_that_was_reset_is_the_tests_own_and_its_floor_is_told() -> None:
    usage = combined(
        kernel=Counters(memory_peak_bytes=900, pids_peak=6, **KINDS),
        kernel_start=Counters(memory_peak_bytes=3000, memory_bytes=800, pids_peak=6, cpu_seconds=0.02, **KINDS),
        agent_start=Counters(memory_peak_bytes=850, memory_bytes=790),
        agent_end=Counters(memory_peak_bytes=890),
        peaks_reset=(True, True),
    )
    assert (usage.memory_peak_bytes, usage.memory_floor_bytes) == (100, 800)
    assert usage.memory_charged_peak_bytes == 900
    assert (usage.memory_peak_is_upper_bound, usage.upper_bounds) == (False, ("pids_peak",))
    assert usage.before_test == {"cpu_seconds": 0.02, "memory_peak_bytes": 3000, "pids_peak": 6}


def test_without_a_reset_the_runtimes_own_peak_is_an_upper_bound() -> None:
    usage = combined(
        agent_start=Counters(memory_peak_bytes=3000 * MIB, memory_bytes=700 * MIB),
        agent_end=Counters(memory_peak_bytes=3000 * MIB),
    )
    assert (usage.memory_peak_bytes, usage.memory_floor_bytes) == (2300 * MIB, 700 * MIB)
    assert (usage.memory_peak_is_upper_bound, usage.upper_bounds) == (True, ("memory_peak_bytes",))


def test_stats_of_a_container_that_does_not_run_are_no_figures() -> None:
    reply = {"read": "0001-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 0}}}
    assert parse_stats(reply) == Counters()


def test_a_kill_that_only_the_agent_saw_counts() -> None:
    usage = combined(kernel=Counters(oom_kills=0), agent_end=Counters(oom_kills=1))
    assert (usage.oom_kills, usage.sources["oom_kills"]) == (1, Source.AGENT)


def test_running_counters_are_differences_in_a_used_slot() -> None:
    usage = combined(
        kernel=Counters(cpu_seconds=12.5, read_bytes=1000, oom_kills=7),
        kernel_start=Counters(cpu_seconds=12.0, read_bytes=400, oom_kills=7),
    )
    assert (usage.cpu_seconds, usage.read_bytes, usage.oom_kills) == (0.5, 600, 0)


def test_readings_of_two_cgroups_are_not_subtracted() -> None:
    usage = combined(
        kernel=Counters(cpu_seconds=1.0),
        kernel_start=Counters(cpu_seconds=12.0),
        agent_start=Counters(cpu_seconds=0.25),
        agent_end=Counters(cpu_seconds=1.0),
    )
    assert (usage.cpu_seconds, usage.sources["cpu_seconds"]) == (0.75, Source.AGENT)


@pytest.mark.parametrize(
    ("kernel_start", "agent_start", "peak", "source", "upper"),
    [
        (None, None, 500, Source.KERNEL, False),  # a new parent
        (400, 100, 500, Source.KERNEL, False),  # rose while the test ran: exact, whoever used it before
        (500, 100, 300, Source.AGENT, False),  # an earlier test's peak: the container's own is younger
        (500, 300, 300, Source.AGENT, True),  # a reused container's too: nobody knows how much less it was
    ],
)
def test_peaks(kernel_start: int | None, agent_start: int | None, peak: int, source: Source, upper: bool) -> None:
    def reading(peak: int | None, now: int = 10) -> Counters:
        return Counters(memory_peak_bytes=None if peak is None else peak * MIB, memory_bytes=now * MIB, **KINDS)

    usage = combined(
        kernel=reading(500),
        kernel_start=None if kernel_start is None else reading(kernel_start),
        agent_start=None if agent_start is None else reading(agent_start, 20),
        agent_end=reading(300),
    )
    floor = 0 if kernel_start is None else 20 if source is Source.AGENT else 10
    assert usage.memory_charged_peak_bytes == peak * MIB
    assert usage.memory_peak_bytes == (peak - floor) * MIB
    assert usage.sources["memory_peak_bytes"] is source
    assert usage.memory_peak_is_upper_bound is upper


def test_kinds_of_memory_are_the_highest_that_samples_saw() -> None:
    samples = (
        Sample(at_seconds=0.0, anon_bytes=10, file_bytes=5, shmem_bytes=0),
        Sample(at_seconds=0.1, memory_bytes=999),
        Sample(at_seconds=0.5, anon_bytes=70, file_bytes=4, shmem_bytes=2),
        Sample(at_seconds=1.0, anon_bytes=0, file_bytes=800, shmem_bytes=0),  # its processes have ended
    )
    usage = combined(samples=samples, container=Counters(anon_bytes=20, file_bytes=6, shmem_bytes=1))
    assert (usage.anon_peak_bytes, usage.file_peak_bytes, usage.shmem_peak_bytes) == (70, 6, 2)
    assert (usage.memory_peak_bytes, usage.sources["memory_peak_bytes"]) == (999, Source.KERNEL)


def test_stats_are_the_last_resort() -> None:
    usage = combined(stats=parse_stats(json.loads((RECORDED / "v1/stats.json").read_text())))
    assert usage.memory_peak_bytes == 67108864
    assert usage.cpu_seconds == 1.030208866
    assert usage.throttled_periods == 18
    assert set(usage.sources.values()) == {Source.STATS}
    assert usage.oom_kills is None


def test_a_missing_figure_says_why() -> None:
    assert combined(reason="rootless").missing == dict.fromkeys(FIGURES, "rootless")
    assert "neither kernel" in combined().missing["cpu_seconds"]


NUMBERS = st.one_of(st.none(), st.integers(0, 1 << 64))
READINGS = st.one_of(
    st.none(),
    st.builds(
        Counters,
        cpu_seconds=st.one_of(st.none(), st.floats(0, 1e9)),
        memory_bytes=NUMBERS,
        memory_peak_bytes=NUMBERS,
        anon_bytes=NUMBERS,
        oom_kills=NUMBERS,
        pids_limit_hits=NUMBERS,
        throttled_seconds=st.one_of(st.none(), st.floats(0, 1e9)),
        read_bytes=NUMBERS,
        events_are_local=st.booleans(),
    ),
)


PARTS = ("kernel", "kernel_start", "container", "agent_start", "agent_end", "stats")


@given(st.fixed_dictionaries(dict.fromkeys(PARTS, READINGS)))
def test_every_figure_has_a_source_or_a_reason_and_none_is_negative(
    readings: dict[str, Counters | None],
) -> None:
    usage = combined(**readings)  # type: ignore[arg-type]  # by the names of its parameters
    for name in FIGURES:
        value = getattr(usage, name)
        assert (name in usage.sources) is (value is not None)
        assert (name in usage.missing) is (value is None)
        assert value is None or value >= 0


def test_stats_of_v1_as_recorded() -> None:
    counters = parse_stats(json.loads((RECORDED / "v1/stats.json").read_text()))
    assert (counters.memory_bytes, counters.anon_bytes, counters.pids) == (15077376, 94208, 16)
    assert (counters.cpu_user_seconds, counters.throttled_seconds) == (0.84, 0.932109543)
    assert counters.read_bytes is None


def test_stats_of_v2_as_recorded() -> None:
    counters = parse_stats(json.loads((RECORDED / "v2/stats.json").read_text()))
    container = recorded("v2/container")
    for name in ("cpu_seconds", "memory_bytes", "anon_bytes", "file_bytes", "shmem_bytes", "pids", "write_bytes"):
        assert getattr(counters, name) == getattr(container, name), name
    assert (counters.throttled_periods, counters.throttled_seconds) == (215, 9.673713)
    assert (counters.memory_peak_bytes, counters.oom_kills) == (None, None)  # it does not tell these on v2


def test_stats_of_v2_sum_the_devices() -> None:
    reply = {
        "memory_stats": {"usage": 4096, "limit": 8192, "stats": {"anon": 1024, "file": 2048, "shmem": 0}},
        "cpu_stats": {"cpu_usage": {"total_usage": 3_000_000_000}, "throttling_data": {"throttled_time": 5}},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": "read", "value": 10},
                {"major": 8, "minor": 16, "op": "read", "value": 5},
                {"major": 8, "minor": 0, "op": "write", "value": 7},
            ]
        },
        "pids_stats": {"current": 3},
    }
    counters = parse_stats(reply)
    assert (counters.anon_bytes, counters.file_bytes, counters.shmem_bytes) == (1024, 2048, 0)
    assert (counters.cpu_seconds, counters.throttled_seconds) == (3.0, 5e-9)
    assert (counters.read_bytes, counters.write_bytes, counters.memory_peak_bytes) == (15, 7, None)


NAMES = "memory_stats stats usage cpu_stats cpu_usage total_usage throttling_data blkio_stats pids_stats current"
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(["read", "x", "-1"]))
KEYS = st.sampled_from([*NAMES.split(), "io_service_bytes_recursive", "op", "value"])
REPLIES = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
        max_leaves=12,
    ),
)


@given(REPLIES)
def test_stats_of_any_shape_never_raise(reply: dict[str, object]) -> None:
    counters = parse_stats(reply)
    assert counters.memory_bytes is None or counters.memory_bytes >= 0
