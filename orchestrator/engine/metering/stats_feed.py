"""Reads the engine's statistics, for slots whose cgroup files cannot be read here: one stream a slot.

The engine answers once a second, so there is no stream for a shorter test. Only the newest answer is kept.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.errors import EngineError
from orchestrator.measure.counters import Counters
from orchestrator.measure.usage import parse_stats

if TYPE_CHECKING:
    from orchestrator.engine.base import ContainerEngine, StatsStream

DELAY_SECONDS = 1.0
"""The delay before the stream is opened: it costs the engine an inspection a second, wasted on shorter tests."""
CLOSE_SECONDS = 2.0


class StatsFeed:
    """A reader for `Sampler.add` of the newest statistics. The sampler closes it."""

    def __init__(self, engine: ContainerEngine, container: str, *, delay_seconds: float = DELAY_SECONDS) -> None:
        self._engine = engine
        self._container = container
        self._delay_seconds = delay_seconds
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._stream: StatsStream | None = None
        self._unseen = Counters()
        self.newest: Counters | None = None
        """The last answer; None if there was none."""
        self._thread = threading.Thread(target=self._follow, name="orch-stats", daemon=True)
        self._thread.start()

    def __call__(self) -> Counters:
        """Return the newest answer if it has not been returned before, else empty counters."""
        with self._lock:
            found, self._unseen = self._unseen, Counters()
        return found

    def one_shot(self) -> None:
        """Read the statistics now, before the container is killed. An engine that does not answer is ignored."""
        with suppress(EngineError):
            self._take(parse_stats(self._engine.stats(self._container)))

    def close(self) -> None:
        """End the stream and its thread. May be called twice."""
        self._closing.set()
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.close()
        self._thread.join(CLOSE_SECONDS)

    def _follow(self) -> None:
        if self._closing.wait(self._delay_seconds):
            return
        with suppress(EngineError):  # the container or the engine is gone: the last answer is kept
            stream = self._engine.stats_stream(self._container)
            with self._lock:
                self._stream = stream
            try:
                while not self._closing.is_set() and (answer := stream.next()) is not None:
                    self._take(parse_stats(answer))
            finally:
                stream.close()

    def _take(self, counters: Counters) -> None:
        """Keep an answer, unless it has no figures because the container does not run."""
        if counters.cpu_seconds is None and counters.memory_bytes is None:
            return
        with self._lock:
            self._unseen = self.newest = counters
