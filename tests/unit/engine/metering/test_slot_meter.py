"""A user's leased parent: running counters by difference, peaks from elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.metering import slot_meter as meter_module
from orchestrator.engine.metering.parent_cgroups import Lease, SlotParent
from orchestrator.engine.metering.slot_meter import SlotMeter
from orchestrator.measure import cgroups
from orchestrator.measure.sampler import Sampler
from orchestrator.model.usage import Source
from orchestrator.testing.engine import FakeEngine
from tests.support.handmade import make_slot_output
from tests.unit.engine.metering.test_parent_cgroups import info

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.engine.agent.output_reader import SlotOutput

MIB = 1 << 20


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cgroup of a parent that an earlier test has used: 9 s of CPU time, a peak of 500 MiB, one OOM kill."""
    folder = tmp_path / "cgroup" / "orch_u1000_1.slice"
    folder.mkdir(parents=True)
    write(folder, cpu=9_000_000, peak=500 * MIB, kills=1)
    locate = cgroups.locate
    monkeypatch.setattr(cgroups, "locate", lambda name, version: locate(name, version, tmp_path / "cgroup"))
    return folder


def write(folder: Path, *, cpu: int, peak: int, kills: int) -> None:
    (folder / "cpu.stat").write_text(f"usage_usec {cpu}\n")
    (folder / "memory.peak").write_text(f"{peak}\n")
    (folder / "pids.peak").write_text("40\n")
    (folder / "memory.stat").write_text("anon 0\nfile 0\nshmem 0\n")
    (folder / "memory.events").write_text(f"oom_kill {kills}\n")


@pytest.fixture
def meter(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlotMeter]:
    lock = tmp_path / "lock"
    lock.touch()
    lease = Lease(number=1, path=lock, descriptor=os.open(lock, os.O_RDWR))
    taken = SlotParent(name=parent.name, version=2, lease=lease)
    monkeypatch.setattr(meter_module, "parent_of_slot", lambda *_: taken)
    with Sampler() as sampler:
        made = SlotMeter(FakeEngine(info=info()), sampler, "1", 1)
        yield made
        made.close()
    assert not lock.exists()
    assert parent.exists()  # it is not ours to remove


def run_with(agent: str) -> SlotOutput:
    return make_slot_output(
        begin_counters="@/sys/fs/cgroup/memory.current\n2097152\n",
        end_counters=agent,
    )


AGENT = "@/sys/fs/cgroup/memory.peak\n6291456\n@/sys/fs/cgroup/pids.peak\n3\n"


def test_what_earlier_tests_used_is_not_counted_again(meter: SlotMeter, parent: Path) -> None:
    meter.begin("id", "key")
    write(parent, cpu=9_250_000, peak=600 * MIB, kills=1)
    usage = meter.usage(run_with(AGENT), (), reason=None)
    assert (usage.cpu_seconds, usage.sources["cpu_seconds"]) == (0.25, Source.KERNEL)
    assert usage.oom_kills == 0
    # the parent's rose, but may hold leftovers
    assert (usage.memory_charged_peak_bytes, usage.memory_peak_bytes, usage.pids_peak) == (6 * MIB, 4 * MIB, 3)
    assert usage.sources["memory_peak_bytes"] is Source.AGENT
    assert not usage.memory_peak_is_upper_bound


def test_a_test_that_starts_with_its_container_is_counted_from_before_it(meter: SlotMeter, parent: Path) -> None:
    write(parent, cpu=9_100_000, peak=500 * MIB, kills=1)  # its container starts
    meter.begin("id", "key", running=True)
    write(parent, cpu=9_400_000, peak=500 * MIB, kills=2)
    usage = meter.usage(run_with(AGENT), (), reason=None)
    assert usage.cpu_seconds == pytest.approx(0.4)
    assert usage.oom_kills == 1


def test_without_an_agent_the_parents_peak_is_an_upper_bound(meter: SlotMeter, parent: Path) -> None:
    meter.begin("id", "key")
    write(parent, cpu=9_100_000, peak=600 * MIB, kills=1)
    usage = meter.usage(run_with(""), (), reason="gone")
    assert (usage.memory_charged_peak_bytes, usage.memory_peak_is_upper_bound) == (600 * MIB, True)
