"""How long a test waited for CPUs that others had, from a cgroup's files in a folder."""

import os
from pathlib import Path

import pytest

from orchestrator.measure import cpu_wait
from orchestrator.measure.cgroups import CgroupPaths
from orchestrator.measure.counters import pressure_seconds
from orchestrator.measure.cpu_wait import CpuWait, HostCpus, host_cpus

SECOND = 1_000_000


class Group:
    """A cgroup that is only files, and the time."""

    def __init__(self, folder: Path, *, pressure: bool = True) -> None:
        self.folder, self.now = folder, 100.0
        self.paths = CgroupPaths(2, (folder,))
        self._pressure = pressure
        self.tell(cpu=1.0, waited=3.0)

    def tell(self, *, cpu: float, waited: float, throttled: float = 0.0, after: float = 0.0) -> None:
        self.now += after
        (self.folder / "cpu.stat").write_text(
            f"usage_usec {cpu * SECOND:.0f}\nuser_usec 0\nsystem_usec 0\nnr_throttled 0\n"
            f"throttled_usec {throttled * SECOND:.0f}\n"
        )
        if self._pressure:
            (self.folder / "cpu.pressure").write_text(
                f"some avg10=9.00 avg60=0.00 avg300=0.00 total={waited * SECOND:.0f}\n"
                "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
            )

    def waits(self, cpus: float = 2.0) -> CpuWait:
        return CpuWait(self.paths, None, cpus=cpus, clock=lambda: self.now)


@pytest.fixture
def group(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_wait._HOST, "now", HostCpus)
    return Group(tmp_path)


def test_a_test_that_got_little_because_others_had_the_cpus(group):
    waits = group.waits()
    group.tell(cpu=2.5, waited=11.5, after=10.0)
    assert waits.seconds() == pytest.approx(8.5)
    assert waits.total_seconds(seconds=10, cpu_seconds=1.5, throttled_seconds=0.0) == pytest.approx(8.5)


def test_a_test_that_sleeps_waits_for_nobody(group):
    waits = group.waits()
    group.tell(cpu=1.1, waited=3.1, after=10.0)
    assert waits.seconds() == pytest.approx(0.1)
    assert not waits.starved(seconds=10.0, limit_seconds=10.0)


def test_what_its_own_quota_holds_back_is_not_counted(group):
    waits = group.waits(cpus=0.5)
    group.tell(cpu=3.5, waited=8.0, throttled=5.0, after=10.0)
    assert waits.seconds() == pytest.approx(0.0)


def test_what_its_own_tasks_take_from_each_other_is_not_counted(group):
    waits = group.waits(cpus=2.0)
    group.tell(cpu=20.9, waited=13.0, after=10.0)
    assert waits.seconds() == pytest.approx(0.05)


def test_a_test_that_never_had_its_limit_was_starved(group):
    waits = group.waits()
    group.tell(cpu=1.5, waited=102.0, after=100.0)
    waits.seconds()
    assert waits.starved(seconds=100.0, limit_seconds=10.0)
    assert not waits.starved(seconds=112.0, limit_seconds=10.0)


def test_what_is_gone_leaves_what_was_known(group):
    waits = group.waits()
    group.tell(cpu=1.5, waited=6.0, after=4.0)
    waits.seconds()
    (group.folder / "cpu.pressure").unlink()
    assert waits.total_seconds(seconds=4.0, cpu_seconds=0.5, throttled_seconds=None) == pytest.approx(3.0)


def test_a_cgroup_around_it_says_it_when_the_container_is_gone(tmp_path, group):
    (tmp_path / "own").mkdir()
    own = Group(tmp_path / "own")
    waits = CpuWait(own.paths, group.paths, cpus=1.0)
    group.tell(cpu=1.0, waited=5.0)
    for file in own.folder.iterdir():
        file.unlink()
    assert waits.total_seconds(seconds=3.0, cpu_seconds=0.5, throttled_seconds=0.0) == pytest.approx(2.0)


def test_time_that_the_hypervisor_took_is_waiting(group, monkeypatch):
    waits = group.waits()
    monkeypatch.setattr(cpu_wait._HOST, "now", lambda: HostCpus(2000, 0, 1000))
    group.tell(cpu=6.0, waited=3.0, after=10.0)
    assert waits.seconds() == pytest.approx(5.0)


def test_without_pressure_the_kernels_account_of_each_task_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_wait._HOST, "now", HostCpus)
    group = Group(tmp_path, pressure=False)
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    waits = group.waits()
    assert not waits.exact
    group.tell(cpu=1.0, waited=0.0, after=10.0)
    assert 0.0 <= waits.seconds() < 10.0
    assert not waits.starved(seconds=10.0, limit_seconds=10.0), "the machine was not busy"
    monkeypatch.setattr(cpu_wait._HOST, "now", lambda: HostCpus(2000, 20, 0))
    waits.seconds()
    assert waits.starved(seconds=10.0, limit_seconds=10.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("some avg10=0.00 avg60=0.00 avg300=0.00 total=1513623\nfull avg10=0.00 total=9\n", 1.513623),
        ("full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n", None),
        ("", None),
        ("some total=x", None),
    ],
)
def test_totals_of_pressure(text, seconds):
    assert pressure_seconds(text) == seconds


def test_the_machines_cpus():
    text = "cpu  10 20 30 400 50 6 7 8 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    assert host_cpus(text) == HostCpus(531, 450, 8)
    assert host_cpus("") == host_cpus("cpu 1 2\n") == HostCpus()
