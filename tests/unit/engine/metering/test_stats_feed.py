from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, cast

from orchestrator.engine.metering.stats_feed import StatsFeed
from orchestrator.errors import EngineError, NotFoundError
from orchestrator.measure.counters import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.engine.base import ContainerEngine

ENDED = {"read": "0001-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 0}}}


def answer(nanoseconds: int) -> dict[str, Any]:
    return {"read": "2026-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": nanoseconds}}}


class Stream:
    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.closed = threading.Event()

    def next(self) -> Mapping[str, object] | None:
        if self.answers:
            return self.answers.pop(0)
        self.closed.wait(10)
        return None

    def close(self) -> None:
        self.closed.set()


class Engine:
    """Answers as it is told; counts the streams."""

    def __init__(self, answers: list[dict[str, Any]], failure: EngineError | None = None) -> None:
        self.stream = Stream(answers)
        self.streams = 0
        self.failure = failure

    def stats(self, _: str) -> Mapping[str, object]:
        if self.failure is not None:
            raise self.failure
        return answer(9_000_000_000)

    def stats_stream(self, _: str) -> Stream:
        self.streams += 1
        if self.failure is not None:
            raise self.failure
        return self.stream


def feed_of(engine: Engine, delay_seconds: float = 0.0) -> StatsFeed:
    return StatsFeed(cast("ContainerEngine", engine), "id", delay_seconds=delay_seconds)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_answer_is_given_once_and_the_newest_is_kept() -> None:
    engine = Engine([answer(1_000_000_000), answer(2_000_000_000), ENDED])
    feed = feed_of(engine)
    until(lambda: not engine.stream.answers)
    until(lambda: feed.newest == Counters(cpu_seconds=2.0))  # what is said of an ended container is no figure
    assert feed() == Counters(cpu_seconds=2.0)
    assert feed() == Counters()
    feed.close()
    assert engine.stream.closed.is_set()
    assert not feed._thread.is_alive()


def test_a_test_that_ends_before_the_delay_opens_no_stream() -> None:
    engine = Engine([answer(1)])
    feed = feed_of(engine, delay_seconds=60.0)
    feed.close()
    feed.close()
    assert engine.streams == 0
    assert feed.newest is None
    assert not feed._thread.is_alive()


def test_one_shot_before_a_kill() -> None:
    feed = feed_of(Engine([]), delay_seconds=60.0)
    feed.one_shot()
    feed.close()
    assert feed.newest == Counters(cpu_seconds=9.0)


def test_an_engine_that_does_not_answer_says_nothing() -> None:
    engine = Engine([], NotFoundError("gone"))
    feed = feed_of(engine)
    feed.one_shot()
    until(lambda: engine.streams == 1)
    feed.close()
    assert feed.newest is None
    assert feed() == Counters()
