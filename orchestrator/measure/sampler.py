"""Time series of running tests: one thread for all slots, bounded per test however long it runs."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.model import Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from orchestrator.measure.counters import Counters
    from orchestrator.measure.processes import ProcessCount

_DENSE_START = (0.1, 0.3, 0.6)
"""Offsets of the first samples, in intervals: a short test deserves more than its two ends."""
_PROCESSES_SECONDS = 1.0
"""Counting processes costs more than the kernel's counters, the more the more there are."""
_PROCESSES_SHARE = 1 / 8
"""Of a test's age, between two counts until they are a second apart: some 15 in the first 2 s, 27 in 8 s."""


class _Series:
    """One test's samples. `lock` keeps the thread and `take` apart, so that its reader is never called twice
    at once nor after it was closed.
    """

    def __init__(
        self,
        read: Callable[[], Counters],
        processes: Callable[[], ProcessCount] | None,
        interval_seconds: float,
        max_samples: int,
    ) -> None:
        self.lock = threading.Lock()
        self._read = read
        self._processes = processes
        self._interval_seconds = interval_seconds
        self._max_samples = max_samples
        self._start: Counters | None = None
        self._samples: list[Sample] = []
        self._started = time.monotonic()
        self._processes_due = self._started + interval_seconds
        self._dense = [self._started + interval_seconds * offset for offset in reversed(_DENSE_START)]
        self._failure: Exception | None = None
        self._finished = False
        self.due = self._started
        self.sample()

    def sample(self) -> None:
        """Take one sample and set when the next is due."""
        with self.lock:
            if not self._finished:
                self.due = self._next_due(self._take_one())

    @property
    def newest(self) -> Sample | None:
        """The last sample taken."""
        return self._samples[-1] if self._samples else None

    def finish(self) -> tuple[Sample, ...]:
        """Take the last sample; all of them. Raises what a reader raised, except an OSError."""
        with self.lock:
            self._take_one()
            self.close()
            if self._failure is not None:
                raise self._failure
            return tuple(self._samples)

    def close(self) -> None:
        """Let the reader release what it holds."""
        self._finished = True
        close = getattr(self._read, "close", None)
        if close is not None:
            close()

    def _take_one(self) -> float:
        """Read, and keep it if it says something; the time of it."""
        now = time.monotonic()
        if self._failure is not None:
            return now
        try:
            counters = self._read()
            now = time.monotonic()
            if counters.memory_bytes is None and counters.cpu_seconds is None and counters.pids is None:
                return now  # the cgroup is gone: not a point of zero, no point at all
            count = None
            if self._processes is not None and now >= self._processes_due:
                gap = min((now - self._started) * _PROCESSES_SHARE, _PROCESSES_SECONDS)
                self._processes_due = now + max(gap, self._interval_seconds / 2)
                count = self._processes()
        except OSError:
            return now
        except Exception as error:  # noqa: BLE001 - a defect must reach the test's own thread, not end this one
            self._failure = error
            return now
        if self._start is None:
            self._start = counters
        self._samples.append(_sample(now - self._started, counters, self._start, count))
        if len(self._samples) > self._max_samples:
            self._samples = _thinned(self._samples)
            self._interval_seconds *= 2
        return now

    def _next_due(self, now: float) -> float:
        """The dense start, then ticks that all tests share: one wake-up of the thread serves them all."""
        while self._dense:  # empty after the first interval
            due = self._dense.pop()
            if due > now:
                return due
        return (math.floor(now / self._interval_seconds) + 1) * self._interval_seconds


class Sampler:
    """Context manager around the thread. `interval_seconds` is between samples of one test."""

    def __init__(self, interval_seconds: float = 0.1, max_samples: int = 600) -> None:
        if interval_seconds <= 0 or max_samples < 2:
            raise ValueError(f"interval {interval_seconds} s, {max_samples} samples: need > 0 and >= 2")
        self._interval_seconds = interval_seconds
        self._max_samples = max_samples
        self._changed = threading.Condition()
        self._series: dict[str, _Series] = {}
        self._wake_at = math.inf
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="orch-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        for series in self._series.values():
            series.close()
        self._series.clear()

    def add(
        self,
        key: str,
        read: Callable[[], Counters],
        processes: Callable[[], ProcessCount] | None = None,
    ) -> None:
        """Start a test's series now: its first sample is taken here, and its running counters count from it.
        A `read` with a `close` method is closed by `take`. ValueError: the key is in use.
        """
        if key in self._series:
            raise ValueError(f"{key} is being sampled already")
        series = _Series(read, processes, self._interval_seconds, self._max_samples)
        with self._changed:
            self._series[key] = series
            if series.due < self._wake_at:
                self._changed.notify()

    def latest(self) -> dict[str, Sample]:
        """The newest sample of each test, for a live display."""
        with self._changed:
            running = list(self._series.items())
        return {key: sample for key, series in running if (sample := series.newest) is not None}

    def take(self, key: str) -> tuple[Sample, ...]:
        """End a test's series with a last sample and return it. KeyError: not being sampled."""
        with self._changed:
            series = self._series.pop(key)
        return series.finish()

    def _loop(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                now = time.monotonic()
                due = [series for series in self._series.values() if series.due <= now]
                if not due:
                    self._wake_at = min((series.due for series in self._series.values()), default=math.inf)
                    self._changed.wait(None if self._wake_at == math.inf else self._wake_at - now)
                    continue
                self._wake_at = 0.0  # awake: nobody needs to wake it
            for series in due:
                series.sample()


def _sample(at_seconds: float, now: Counters, start: Counters, count: ProcessCount | None) -> Sample:
    return Sample(
        at_seconds=at_seconds,
        memory_bytes=now.memory_bytes,
        anon_bytes=now.anon_bytes,
        file_bytes=now.file_bytes,
        shmem_bytes=now.shmem_bytes,
        cpu_seconds=_since(now.cpu_seconds, start.cpu_seconds),
        pids=now.pids,
        processes=count.processes if count else None,
        threads=count.threads if count else None,
        open_files=count.open_files if count else None,
        process_threads_max=count.threads_max if count else None,
        process_open_files_max=count.open_files_max if count else None,
        read_bytes=_since_whole(now.read_bytes, start.read_bytes),
        write_bytes=_since_whole(now.write_bytes, start.write_bytes),
        throttled_seconds=_since(now.throttled_seconds, start.throttled_seconds),
        memory_pressure_ratio=now.memory_pressure_ratio,
    )


def _since(now: float | None, start: float | None) -> float | None:
    """Growth of a running counter; None where it shrank, for then it is not the same counter."""
    difference = None if now is None else now - (start or 0.0)
    return None if difference is None or difference < 0 else difference


def _since_whole(now: int | None, start: int | None) -> int | None:
    difference = None if now is None else now - (start or 0)
    return None if difference is None or difference < 0 else difference


def _thinned(samples: list[Sample]) -> list[Sample]:
    """Every second one dropped, of two neighbours the one with less memory, so that peaks stay in sight; a
    count of processes is handed to the neighbour that stays, an interval away at most. The first, where the
    counters are 0, always stays.
    """

    def weight(sample: Sample) -> tuple[int, int]:
        return (-1 if sample.anon_bytes is None else sample.anon_bytes, sample.memory_bytes or 0)

    rest = samples[1:]
    pairs = [rest[i : i + 2] for i in range(0, len(rest), 2)]
    return [samples[0], *(_with_count(max(pair, key=weight), pair) for pair in pairs)]


def _with_count(kept: Sample, pair: list[Sample]) -> Sample:
    counted = next((sample for sample in pair if sample.processes is not None), None)
    if kept.processes is not None or counted is None:
        return kept
    return replace(
        kept,
        processes=counted.processes,
        threads=counted.threads,
        open_files=counted.open_files,
        process_threads_max=counted.process_threads_max,
        process_open_files_max=counted.process_open_files_max,
    )
