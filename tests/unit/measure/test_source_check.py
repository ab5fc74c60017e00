from __future__ import annotations

import pytest

from orchestrator.measure.source_check import disagreements
from orchestrator.model.usage import Sample

MIB = 1 << 20


def found(
    parent: dict[str, float] | None = None,
    agent: dict[str, float] | None = None,
    stats: dict[str, float] | None = None,
    *samples: Sample,
    archived: bool = False,
) -> dict[str, str]:
    return disagreements(
        parent=parent or {}, agent=agent or {}, stats=stats or {}, samples=samples, archived=archived
    )


@pytest.mark.parametrize(
    ("name", "parent", "agent", "differ"),
    [
        ("cpu_seconds", 1.055, 1.0, False),  # the container's end
        ("cpu_seconds", 1.08, 1.0, True),
        ("cpu_seconds", 0.995, 1.0, False),  # ticks
        ("cpu_seconds", 0.95, 1.0, True),
        ("memory_peak_bytes", 101 * MIB, 100 * MIB, False),
        ("memory_peak_bytes", 103 * MIB, 100 * MIB, True),
        ("memory_peak_bytes", 95 * MIB, 100 * MIB, True),
        ("pids_peak", 12, 9, False),  # tar, head and their shell
        ("pids_peak", 13, 9, True),
        ("pids_peak", 8, 9, True),
    ],
)
def test_parent_against_agent(name: str, parent: float, agent: float, differ: bool) -> None:
    assert (name in found({name: parent}, {name: agent})) is differ


def test_one_source_alone_cannot_disagree() -> None:
    assert found({"cpu_seconds": 1.0}) == found({}, {"pids_peak": 4}) == found() == {}


def test_packing_outputs_costs_the_parent_only() -> None:
    assert found({"cpu_seconds": 3.0}, {"cpu_seconds": 1.0}, archived=True) == {}
    assert "cpu_seconds" in found({"cpu_seconds": 1.0}, {"cpu_seconds": 3.0}, archived=True)


def test_freeing_much_memory_costs_the_parent_too() -> None:
    parent, agent = {"cpu_seconds": 1.2, "memory_peak_bytes": 500.0 * MIB}, {"cpu_seconds": 1.0}
    assert found(parent, agent) == {}
    assert "cpu_seconds" in found({**parent, "memory_peak_bytes": 100.0 * MIB}, agent)


def test_statistics_may_lag_but_not_lead() -> None:
    assert found({"cpu_seconds": 1.0}, None, {"cpu_seconds": 0.2}) == {}
    text = found({"cpu_seconds": 1.0}, None, {"cpu_seconds": 1.2})["cpu_seconds"]
    assert text == "1.200 s by the engine's statistics, 1.000 s by the kernel"


def test_no_sample_is_above_the_peak() -> None:
    peaks: dict[str, float] = {"memory_peak_bytes": 2 * MIB, "pids_peak": 4}
    low, high = Sample(at_seconds=0, memory_bytes=MIB, pids=4), Sample(at_seconds=1, memory_bytes=3 * MIB, pids=5)
    assert found(peaks, None, None, low) == {}
    assert found(peaks, None, None, low, high) == {
        "memory_peak_bytes": "3.00 MiB in a sample, 2.00 MiB at the end",
        "pids_peak": "5 in a sample, 4 at the end",
    }
