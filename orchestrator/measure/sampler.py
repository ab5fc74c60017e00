"""Takes time series of running tests, with one thread for all slots and a limited number of samples a test."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from orchestrator.measure.counters import Counters
from orchestrator.model.usage import Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from orchestrator.measure.cgroup_reader import QuickReading
    from orchestrator.measure.processes import ProcessCount

    _Point = tuple[float, Counters | QuickReading, ProcessCount | None]
    """Seconds since the start, the reading, and the processes if they were counted."""

_DENSE_START = (0.1, 0.3, 0.6)
"""Offsets of the first samples, in intervals, so that a short test has more than its first and last."""
_PROCESSES_SECONDS = 1.0
"""The longest time between two counts of processes, each of which costs more than reading the counters."""
_PROCESSES_SHARE = 1 / 8
"""The time between two counts as a share of the test's age, up to a second: some 15 in the first 2 s, 27 in 8 s.
"""
_NOTHING = (None, None, None)


class _Series:
    """The samples of one test. `lock` ensures that its reader is never called twice at once, or after it was
    closed.
    """

    def __init__(
        self,
        read: Callable[[], Counters],
        processes: Callable[[], ProcessCount] | None,
        interval_seconds: float,
        max_samples: int,
        since: float | None = None,
    ) -> None:
        self.lock = threading.Lock()
        self._read = read
        self._point: Callable[[], Counters | QuickReading] = getattr(read, "point", read)
        self._processes = processes
        self._interval_seconds = interval_seconds
        self._max_samples = max_samples
        self._start: Counters | None = None
        self._points: list[_Point] = []
        now = time.monotonic()
        self._started = now if since is None else since
        self._processes_due = now + interval_seconds
        self._dense = [now + interval_seconds * offset for offset in reversed(_DENSE_START)]
        self._failure: Exception | None = None
        self._finished = False
        self.due = now
        self.sample()

    def sample(self) -> None:
        """Take one sample, and set when the next is due."""
        with self.lock:
            if not self._finished:
                self.due = self._next_due(self._take_one())

    @property
    def newest(self) -> Sample | None:
        """The last sample that was taken; None before the first."""
        return self._sample_of(self._points[-1]) if self._points else None

    def finish(self) -> tuple[Sample, ...]:
        """Take the last sample and return all. Raises what a reader raised, except an OSError."""
        with self.lock:
            self._take_one()
            self.close()
            if self._failure is not None:
                raise self._failure
            return tuple(map(self._sample_of, self._points))

    def close(self) -> None:
        """End the series, and close the reader."""
        self._finished = True
        close = getattr(self._read, "close", None)
        if close is not None:
            close()

    def _take_one(self) -> float:
        """Take a reading, keep it if it has figures, and return its time."""
        if self._failure is not None:
            return time.monotonic()
        count = None
        try:
            point = self._point()
            now = time.monotonic()
            if self._processes is not None and now >= self._processes_due and _has_figures(point):
                gap = min((now - self._started) * _PROCESSES_SHARE, _PROCESSES_SECONDS)
                self._processes_due = now + max(gap, self._interval_seconds / 2)
                count = self._processes()
        except OSError:
            return time.monotonic()
        except Exception as error:  # noqa: BLE001 - a defect must reach the test's own thread, not end this one
            self._failure = error
            return time.monotonic()
        if not _has_figures(point):
            return now  # the cgroup is gone: not a point of zero, no point at all
        if self._start is None:
            self._start = _counters(point)
        self._points.append((now - self._started, point, count))
        if len(self._points) > self._max_samples:
            self._points = _thinned(self._points)
            self._interval_seconds *= 2
        return now

    def _sample_of(self, point: _Point) -> Sample:
        """Return the sample of a point. It is made late, because few points of a long test become samples."""
        at_seconds, seen, count = point
        if isinstance(seen, tuple) and count is None:
            cpu_seconds, memory_bytes, pids = seen
            used = _since(cpu_seconds, self._start.cpu_seconds if self._start else None)
            return Sample(at_seconds=at_seconds, cpu_seconds=used, memory_bytes=memory_bytes, pids=pids)
        return _sample(at_seconds, _counters(seen), self._start or Counters(), count)

    def _next_due(self, now: float) -> float:
        """Return when the next sample is due: at the dense start's offsets, then at ticks that all tests share."""
        while self._dense:  # empty after the first interval
            due = self._dense.pop()
            if due > now:
                return due
        return (math.floor(now / self._interval_seconds) + 1) * self._interval_seconds


class Sampler:
    """Samples tests in a thread, which this context manager starts and ends."""

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
        *,
        since: float | None = None,
    ) -> None:
        """Start a test's series now: its first sample is taken here, and its running counters count from it.
        `since`: monotonic time at which the test began, if it was not now.
        A `read` with a `close` method is closed by `take`. ValueError: the key is in use.
        """
        if key in self._series:
            raise ValueError(f"{key} is being sampled already")
        series = _Series(read, processes, self._interval_seconds, self._max_samples, since)
        with self._changed:
            self._series[key] = series
            if series.due < self._wake_at:
                self._changed.notify()

    def latest(self) -> dict[str, Sample]:
        """Return the newest sample of each test, for a live display."""
        with self._changed:
            running = list(self._series.items())
        return {key: sample for key, series in running if (sample := series.newest) is not None}

    def take(self, key: str) -> tuple[Sample, ...]:
        """End a test's series with a last sample, and return it. Raises KeyError if it is not being sampled."""
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


def _has_figures(point: Counters | QuickReading) -> bool:
    if isinstance(point, tuple):
        return point != _NOTHING
    return not (point.memory_bytes is None and point.cpu_seconds is None and point.pids is None)


def _counters(point: Counters | QuickReading) -> Counters:
    if isinstance(point, tuple):
        return Counters(cpu_seconds=point[0], memory_bytes=point[1], pids=point[2])
    return point


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
    """Return the growth of a running counter; None if it shrank, because then it is another counter."""
    difference = None if now is None else now - (start or 0.0)
    return None if difference is None or difference < 0 else difference


def _since_whole(now: int | None, start: int | None) -> int | None:
    difference = None if now is None else now - (start or 0)
    return None if difference is None or difference < 0 else difference


def _thinned(points: list[_Point]) -> list[_Point]:
    """Return half of the points: of each two neighbours, the one with more memory, so that peaks are kept.

    A count of processes goes to the neighbour that is kept, at most an interval away. The first point, where the
    counters are 0, is always kept.
    """

    def weight(point: _Point) -> tuple[int, int]:
        seen = point[1]
        if isinstance(seen, tuple):
            return (-1, seen[1] or 0)
        return (-1 if seen.anon_bytes is None else seen.anon_bytes, seen.memory_bytes or 0)

    rest = points[1:]
    pairs = [rest[i : i + 2] for i in range(0, len(rest), 2)]
    return [points[0], *(_with_count(max(pair, key=weight), pair) for pair in pairs)]


def _with_count(kept: _Point, pair: list[_Point]) -> _Point:
    if kept[2] is not None:
        return kept
    return kept[0], kept[1], next((count for _, _, count in pair if count is not None), None)
