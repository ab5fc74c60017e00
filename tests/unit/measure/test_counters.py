from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.measure.cgroups import AGENT_FILES_V1, AGENT_FILES_V2, Counters
from orchestrator.measure.counters import parse_agent, parse_v1, parse_v2

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> dict[str, str]:
    return {file.name: file.read_text() for file in (RECORDED / name).iterdir()}


def test_v1_container_as_recorded() -> None:
    assert parse_v1(recorded("v1/container")) == Counters(
        cpu_seconds=0.996875649,
        cpu_user_seconds=0.867790935,
        cpu_system_seconds=0.183989410,
        memory_bytes=15130624,
        memory_peak_bytes=67108864,
        anon_bytes=94208,
        file_bytes=14102528,
        shmem_bytes=8388608,
        swap_peak_bytes=None,
        pids=16,
        pids_peak=20,
        oom_kills=1,
        pids_limit_hits=5,
        throttled_periods=18,
        throttled_seconds=0.932109543,
        read_bytes=None,  # `Total 0` of a kernel that does not count
        write_bytes=None,
        memory_pressure_ratio=0.0,
        events_are_local=True,
    )


def test_v1_parent_outlives_its_container_but_has_not_seen_its_events() -> None:
    parent = parse_v1(recorded("v1/parent"))
    assert (parent.cpu_seconds, parent.memory_peak_bytes, parent.pids_peak) == (1.032061242, 67371008, 23)
    assert (parent.anon_bytes, parent.pids) == (0, 0)
    assert (parent.oom_kills, parent.pids_limit_hits, parent.events_are_local) == (0, 0, True)


def test_v1_parent_takes_the_totals_of_memory_stat() -> None:
    text = "cache 0\nrss 0\nshmem 0\ntotal_cache 700\ntotal_rss 500\ntotal_shmem 300\n"
    counters = parse_v1({"memory.stat": text})
    assert (counters.file_bytes, counters.anon_bytes, counters.shmem_bytes) == (700, 500, 300)


def test_v1_cpu_from_ticks_where_nanoseconds_are_absent() -> None:
    counters = parse_v1({"cpuacct.stat": "user 82\nsystem 17\n"})
    assert (counters.cpu_user_seconds, counters.cpu_system_seconds) == (0.82, 0.17)
    assert counters.cpu_seconds == pytest.approx(0.99)


def test_v1_io_sums_devices_and_prefers_the_recursive_file() -> None:
    own = "8:0 Read 1\n8:0 Write 2\nTotal 3\n"
    tree = "8:0 Read 100\n8:0 Write 20\n8:0 Sync 7\n253:1 Read 11\n253:1 Write 0\nTotal 131\n"
    files = {"blkio.throttle.io_service_bytes": own, "blkio.throttle.io_service_bytes_recursive": tree}
    assert (parse_v1(files).read_bytes, parse_v1(files).write_bytes) == (111, 20)
    assert parse_v1({"blkio.throttle.io_service_bytes": own}).read_bytes == 1


def test_v2_container_as_recorded() -> None:
    assert parse_v2(recorded("v2/container")) == Counters(
        cpu_seconds=15.903489,
        cpu_user_seconds=7.329089,
        cpu_system_seconds=8.574399,
        memory_bytes=16752640,
        memory_peak_bytes=67108864,
        anon_bytes=1974272,
        file_bytes=12591104,
        shmem_bytes=8388608,
        swap_peak_bytes=0,
        pids=20,
        pids_peak=20,
        oom_kills=1,
        pids_limit_hits=1,
        throttled_periods=215,
        throttled_seconds=9.673713,
        read_bytes=0,
        write_bytes=4194304,
        memory_pressure_ratio=0.0048,
    )


def test_v2_parent_outlives_its_container_and_has_its_events_but_not_its_throttling() -> None:
    parent = parse_v2(recorded("v2/parent"))
    assert (parent.cpu_seconds, parent.memory_peak_bytes, parent.pids_peak) == (16.156215, 67121152, 20)
    assert (parent.anon_bytes, parent.pids, parent.write_bytes) == (0, 0, 4194304)
    assert (parent.oom_kills, parent.pids_limit_hits, parent.events_are_local) == (1, 1, False)
    assert (parent.throttled_periods, parent.throttled_seconds) == (0, 0.0)


def test_v2_io_sums_devices_and_passes_over_one_without_counters() -> None:
    text = (
        "254:0 rbytes=4542464 wbytes=8388608 rios=37 wios=12 dbytes=0 dios=0\n"
        "254:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n7:0 \n"
    )
    assert (parse_v2({"io.stat": text}).read_bytes, parse_v2({"io.stat": text}).write_bytes) == (4546560, 8388608)


def test_v2_without_io_is_a_measured_zero_and_garbage_is_not() -> None:
    assert parse_v2({"io.stat": ""}).read_bytes == 0
    assert parse_v2({"io.stat": "\n"}).write_bytes == 0
    assert parse_v2({"io.stat": "what is this"}).read_bytes is None
    assert parse_v2({}).read_bytes is None


@pytest.mark.parametrize("text", ["", "max", "-1", "1.5", "٣", "0x10", "1 2", "9" * 21, "\0", "nan"])
def test_no_number_is_none_and_never_zero(text: str) -> None:
    assert parse_v1({"memory.max_usage_in_bytes": text, "cpuacct.usage": text}) == Counters(events_are_local=True)
    assert parse_v2({"memory.peak": text, "pids.peak": text, "memory.swap.peak": text}) == Counters()


def test_unknown_keys_and_broken_lines_do_not_hide_the_good_one() -> None:
    events = "low x\nhope 3\noom_kill 2\noom_kill_ignore_this 9\n\noom"
    assert parse_v2({"memory.events": events, "new.file": "1"}).oom_kills == 2


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("some avg10=100.00 avg60=0.00\n", 1.0),
        ("full avg10=9.00\nsome avg60=1.00 avg10=2.50 total=1", 0.025),
        ("full avg10=9.00\n", None),
        ("some avg10=max\n", None),
        ("some avg10=\n", None),
    ],
)
def test_pressure(text: str, ratio: float | None) -> None:
    assert parse_v2({"memory.pressure": text}).memory_pressure_ratio == ratio


def agent_text(paths: tuple[str, ...], files: dict[str, str]) -> str:
    return "".join(f"@{path}\n{files[path.rpartition('/')[2]]}\n" for path in paths)


def test_the_agents_section_says_what_the_files_said() -> None:
    for version, paths, parse in (("v1", AGENT_FILES_V1, parse_v1), ("v2", AGENT_FILES_V2, parse_v2)):
        files = recorded(f"{version}/container")
        seen = {path.rpartition("/")[2] for path in paths}
        assert parse_agent(agent_text(paths, files)) == parse({n: t for n, t in files.items() if n in seen})


def test_an_agents_empty_block_is_no_zero() -> None:
    counters = parse_agent("@/sys/fs/cgroup/io.stat\n@/sys/fs/cgroup/pids.peak\n3\n")
    assert (counters.read_bytes, counters.pids_peak, counters.events_are_local) == (None, 3, False)


def test_the_agents_hybrid_cpu_stat_is_not_mistaken_for_v1s() -> None:
    text = (
        "@/sys/fs/cgroup/cpu/cpu.stat\nnr_throttled 4\nthrottled_time 2000000000\n"
        "@/sys/fs/cgroup/unified/cpu.stat\nusage_usec 5\nnr_throttled 0\n"
    )
    assert parse_agent(text).throttled_periods == 4
    assert parse_agent(text).throttled_seconds == 2.0


NAMES = sorted(
    {p.rpartition("/")[2] for p in AGENT_FILES_V1 + AGENT_FILES_V2} | {"memory.stat", "memory.pressure"}
)
KEYS = [
    "usage_usec",
    "oom_kill",
    "max",
    "total_rss",
    "anon",
    "some avg10=",
    "8:0 Read",
    "8:0 rbytes=",
    "user",
]
LINES = st.one_of(
    st.text("0123456789 maxsoevg=.-:\n\0@²٣é", max_size=30),
    st.builds(
        "{} {}".format,
        st.sampled_from(KEYS),
        st.one_of(st.integers().map(str), st.text("0123456789max.-²٣", max_size=9)),
    ),
)


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(LINES, max_size=4).map("\n".join)))
def test_parsers_never_raise_and_never_go_below_zero(files: dict[str, str]) -> None:
    agent = "".join(f"@/sys/fs/cgroup/{name}\n{text}\n" for name, text in files.items())
    for counters in (parse_v1(files), parse_v2(files), parse_agent(agent)):
        for field in fields(counters):
            value = getattr(counters, field.name)
            assert value is None or value >= 0
