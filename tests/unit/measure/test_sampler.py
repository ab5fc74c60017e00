from __future__ import annotations

import threading
import time
from itertools import count as counting
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.measure import cgroup_reader
from orchestrator.measure.cgroup_reader import SeriesReader
from orchestrator.measure.cgroups import CgroupPaths, locate
from orchestrator.measure.counters import Counters
from orchestrator.measure.processes import ProcessCount
from orchestrator.measure.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED = Path(__file__).parent / "recorded"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in 5 s"
        time.sleep(0.005)


class Growing:
    """A reader whose memory and counters grow with each call."""

    def __init__(self) -> None:
        self.calls = 0
        self.closed = 0

    def __call__(self) -> Counters:
        self.calls += 1
        return Counters(memory_bytes=self.calls, cpu_seconds=10.0 + self.calls, read_bytes=100 * self.calls)

    def close(self) -> None:
        self.closed += 1


def test_first_and_last_sample_even_of_a_test_that_lasts_no_time() -> None:
    reader = Growing()
    with Sampler(interval_seconds=60) as sampler:
        sampler.add("a", reader)
        samples = sampler.take("a")
    assert [sample.memory_bytes for sample in samples] == [1, 2]
    assert [sample.cpu_seconds for sample in samples] == [0, 1]  # since the test's start
    assert [sample.read_bytes for sample in samples] == [0, 100]
    assert 0 <= samples[0].at_seconds < samples[1].at_seconds < 5
    assert reader.closed == 1


def test_the_thread_samples_all_and_is_dense_at_the_start() -> None:
    readers = {key: Growing() for key in "abc"}
    with Sampler(interval_seconds=0.2) as sampler:
        for key, reader in readers.items():
            sampler.add(key, reader)
        wait_until(lambda: all(reader.calls >= 6 for reader in readers.values()))
        samples = sampler.take("a")
        assert [sample.at_seconds for sample in samples] == sorted(sample.at_seconds for sample in samples)
        assert samples[3].at_seconds < 0.2  # three within the first interval, on top of the one at its start
    assert [reader.closed for reader in readers.values()] == [1, 1, 1]
    assert not [thread for thread in threading.enumerate() if thread.name == "orch-sampler"]


def test_a_series_is_bounded_and_keeps_its_ends_and_its_peak() -> None:
    steps = counting()

    def read() -> Counters:
        step = next(steps)
        return Counters(memory_bytes=1000 if step == 9 else step, anon_bytes=900 if step == 9 else 1, pids=1)

    with Sampler(interval_seconds=0.002, max_samples=8) as sampler:
        sampler.add("a", read)
        time.sleep(0.3)
        samples = sampler.take("a")
    assert len(samples) <= 9
    assert samples[0].memory_bytes == 0
    assert 1000 in [sample.memory_bytes for sample in samples]
    assert samples[-1].at_seconds >= 0.3
    gaps = [b.at_seconds - a.at_seconds for a, b in pairwise(samples)]
    assert max(gaps) > 0.01  # the interval doubled: 8 samples of 2 ms do not span 0.3 s


def test_a_reading_that_fails_or_says_nothing_is_no_sample() -> None:
    steps = counting()

    def read() -> Counters:
        step = next(steps)
        if step == 1:
            raise OSError("No such device")
        return Counters(cpu_seconds=None if step == 2 else 5.0 + step)

    with Sampler(interval_seconds=0.01) as sampler:
        sampler.add("a", read)
        wait_until(lambda: next(steps) > 4)
        samples = sampler.take("a")
    assert len(samples) >= 2
    assert samples[0].cpu_seconds == 0
    assert all(sample.cpu_seconds is not None and sample.cpu_seconds != 2 for sample in samples)


def test_a_defect_in_one_reader_leaves_the_others_sampled() -> None:
    good = Growing()

    def bad() -> Counters:
        raise KeyError("a defect")

    with Sampler(interval_seconds=0.01) as sampler:
        sampler.add("bad", bad)
        sampler.add("good", good)
        wait_until(lambda: good.calls > 5)
        with pytest.raises(KeyError, match="a defect"):
            sampler.take("bad")
        assert len(sampler.take("good")) > 5


def test_processes_are_counted_ever_more_seldom() -> None:
    asked: list[float] = []

    def processes() -> ProcessCount:
        asked.append(time.monotonic())
        return ProcessCount(processes=3, threads=5, open_files=8, threads_max=4, open_files_max=6)

    reader = Growing()
    with Sampler(interval_seconds=0.01) as sampler:
        sampler.add("a", reader, processes)
        wait_until(lambda: reader.calls > 60)
        samples = sampler.take("a")
    assert 5 <= len(asked) < reader.calls / 2
    gaps = [b - a for a, b in pairwise(asked)]
    assert gaps[-1] > 3 * gaps[0]
    counts = [s for s in samples if s.processes is not None]
    assert len(counts) == len(asked)
    assert {(s.processes, s.threads, s.open_files) for s in counts} == {(3, 5, 8)}
    assert {(s.process_threads_max, s.process_open_files_max) for s in counts} == {(4, 6)}


def test_a_count_of_processes_outlives_the_thinning() -> None:
    """The samples with a count have the least memory, so that their neighbours are kept."""
    counted = [0]

    def read() -> Counters:
        return Counters(memory_bytes=100 - counted[0] % 2)

    def processes() -> ProcessCount:
        counted[0] += 1
        return ProcessCount(processes=1, open_files=counted[0], open_files_max=counted[0])

    with Sampler(interval_seconds=0.002, max_samples=8) as sampler:
        sampler.add("a", read, processes)
        time.sleep(0.3)
        samples = sampler.take("a")
    kept = [sample.open_files for sample in samples if sample.open_files is not None]
    assert len(kept) >= 4
    assert kept == sorted(kept)


def test_keys_are_used_once_at_a_time() -> None:
    with Sampler() as sampler:
        sampler.add("a", Growing())
        with pytest.raises(ValueError, match="sampled already"):
            sampler.add("a", Growing())
        sampler.take("a")
        with pytest.raises(KeyError):
            sampler.take("a")
        sampler.add("a", Growing())


def test_nonsense_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="interval 0"):
        Sampler(interval_seconds=0)
    with pytest.raises(ValueError, match="1 samples"):
        Sampler(max_samples=1)


@pytest.mark.parametrize("keep", [True, False])
def test_series_reader_is_complete_first_and_then_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    if not keep:
        monkeypatch.setattr(cgroup_reader._ALLOWANCE, "take", lambda: False)
    paths = locate("container", 2, RECORDED / "v2")
    assert paths is not None
    reader = SeriesReader(paths)
    readings = [reader() for _ in range(120)]
    complete = [n for n, reading in enumerate(readings, 1) if reading.anon_bytes is not None]
    assert complete[:20] == [*range(1, 17), 18, 20, 22, 24]
    assert complete[-3:] == [91, 101, 111]
    assert {(r.cpu_seconds, r.memory_bytes, r.pids) for r in readings} == {(15.903489, 16752640, 20)}
    assert readings[9].memory_pressure_ratio == 0.0048
    assert bool(reader._open) is keep
    reader.close()
    reader.close()
    assert not reader._open


def test_series_reader_keeps_no_more_than_its_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_reader.resource, "getrlimit", lambda _: (8, 8))
    paths = locate("container", 2, RECORDED / "v2")
    assert paths is not None
    readers = [SeriesReader(paths) for _ in range(3)]
    assert {reader().anon_bytes for reader in readers} == {1974272}
    assert sum(len(reader._open) for reader in readers) == 2
    for reader in readers:
        reader.close()


def test_series_reader_of_a_cgroup_that_is_gone() -> None:
    paths = locate("container", 2, RECORDED / "v2")
    assert paths is not None
    gone = type(paths)(2, (RECORDED / "nowhere",))
    assert SeriesReader(gone)() == Counters()


@pytest.mark.parametrize("version", [1, 2])
def test_quick_points_become_the_same_samples_as_complete_ones(version: int) -> None:
    reader = SeriesReader(CgroupPaths(version, (RECORDED / f"v{version}" / "container",)))
    with Sampler(interval_seconds=0.002) as sampler:
        sampler.add("a", reader)
        wait_until(lambda: reader._calls > 40)
        newest = sampler.latest()["a"]
        samples = sampler.take("a")
    assert {sample.anon_bytes is None for sample in samples} == {True, False}
    assert len({(sample.cpu_seconds, sample.memory_bytes, sample.pids) for sample in samples}) == 1
    assert samples[0].cpu_seconds == 0
    assert newest.memory_bytes == samples[0].memory_bytes
    assert not reader._open


def test_a_quick_reading_of_garbage_is_no_figure(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    group = tmp_path / "group"
    group.mkdir()
    for name, text in {
        "cpu.stat": "usage_usec 5000000\n",
        "memory.current": "4096\n",
        "pids.current": "2\n",
    }.items():
        (group / name).write_text(text)
    paths = locate("group", 2, tmp_path)
    assert paths is not None
    reader = SeriesReader(paths)
    while isinstance(reader.point(), Counters):
        pass
    (group / "memory.current").write_text("what\n")
    points = [reader.point() for _ in range(3)]
    reader.close()
    assert (5.0, None, 2) in points
    assert all(isinstance(point, Counters) or point[1] is None for point in points)


def test_a_count_survives_thinning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.measure.sampler._PROCESSES_SHARE", 1e9)
    monkeypatch.setattr("orchestrator.measure.sampler._PROCESSES_SECONDS", 100)
    reader = Growing()
    with Sampler(interval_seconds=0.002, max_samples=8) as sampler:
        sampler.add("a", reader, lambda: ProcessCount(processes=3, threads=5, open_files=8))
        wait_until(lambda: reader.calls > 24)
        samples = sampler.take("a")
    assert [sample.processes for sample in samples if sample.processes is not None] == [3]
