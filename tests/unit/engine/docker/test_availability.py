"""An engine that goes away is waited for, and what others do to a container is known; CASES A10, D1."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.docker import availability as presence_module
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.docker.connect_errors import AWAY_SECONDS, away_seconds
from orchestrator.errors import (
    ConflictError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    StoppedWaitingError,
    UsageError,
)
from orchestrator.stop_flag import StopFlag, StopLevel
from orchestrator.testing.engine import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AWAY = EngineUnavailableError("refused")


class Bench:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.stop = StopFlag()
        self.said: list[str] = []
        self.availability = EngineAvailability(self.engine, self.stop, notify=self.said.append, patience_seconds=5)

    def acts(self, *outcomes: EngineError | str) -> Callable[[], str]:
        """Something whose calls come out like this, one after another."""
        left = list(outcomes)

        def act() -> str:
            outcome = left.pop(0)
            if isinstance(outcome, EngineError):
                raise outcome
            return outcome

        return act


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(presence_module, "PAUSE_SECONDS", 0.01)
    made = Bench()
    yield made
    made.availability.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_the_engine_broke_off_is_done_again_when_it_is_back(bench: Bench) -> None:
    bench.engine.fail("ping", AWAY, times=6)
    assert bench.availability.retry(bench.acts(AWAY, "done")) == "done"
    went, back = bench.said
    assert "does not answer since" in went
    assert "at most 5 s (ORCH_ENGINE_AWAY_SECONDS)" in went
    assert "is back after" in back
    assert bench.availability.was_away


def test_many_who_wait_say_it_once(bench: Bench) -> None:
    bench.engine.fail("ping", AWAY, times=30)
    waiting = [
        threading.Thread(target=bench.availability.retry, args=(bench.acts(AWAY, "done"),)) for _ in range(8)
    ]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(10)
    assert len(bench.said) == 2, bench.said


def test_what_fails_for_another_reason_is_not_done_again(bench: Bench) -> None:
    with pytest.raises(ConflictError, match="taken"):
        bench.availability.retry(bench.acts(ConflictError("taken"), "done"))
    assert bench.said == []
    assert not bench.availability.was_away


def test_one_slow_answer_is_no_absence_and_is_asked_again(bench: Bench) -> None:
    assert bench.availability.retry(bench.acts(EngineTimeoutError("slow"), "done")) == "done"
    assert bench.said == []


def test_an_engine_that_is_ending_is_asked_first(bench: Bench) -> None:
    """It still serves the connections that it has."""
    bench.engine.fail("ping", AWAY, times=3)
    calls: list[int] = []
    bench.availability.retry(lambda: calls.append(len(bench.said)), ask=True)
    assert calls == [2]  # gone and back were said before


def test_the_run_ends_when_the_engine_stays_away(bench: Bench) -> None:
    bench.availability = EngineAvailability(
        bench.engine, bench.stop, notify=bench.said.append, patience_seconds=0.1
    )
    bench.engine.fail("ping", AWAY, times=1000)
    with pytest.raises(EngineUnavailableError, match=r"has not come back within 0\.1 s"):
        bench.availability.retry(bench.acts(AWAY, AWAY, AWAY))
    assert bench.stop.level is StopLevel.TERMINATE
    assert bench.stop.reason == "the engine has not come back within 0.1 s"


def test_a_run_that_is_stopped_waits_no_longer(bench: Bench) -> None:
    bench.engine.fail("ping", AWAY, times=100_000)
    threading.Timer(0.05, bench.stop.set, (StopLevel.TERMINATE, "Ctrl-C")).start()
    with pytest.raises(StoppedWaitingError):
        bench.availability.retry(bench.acts(AWAY, "done"))


def test_the_end_of_the_events_is_the_engines_end(bench: Bench) -> None:
    life = bench.availability.generation
    bench.availability.follow({"run": "1"})
    wait_until(lambda: ("events", "run") in bench.engine.calls)
    assert not bench.availability.went_away(None, life)
    bench.engine.end_events()
    wait_until(lambda: bench.availability.generation != life)
    assert bench.availability.went_away(None, life)
    assert not bench.availability.went_away(None, bench.availability.generation)


@pytest.mark.parametrize(
    ("kinds", "ending", "found"),
    [
        (("pause", "unpause"), False, "pause"),
        (("kill", "stop"), False, "stop"),
        (("kill",), True, None),
        (("exec_create: sh", "exec_start: sh"), False, "exec_create"),
        (("exec_create: kill", "exec_start: kill"), True, None),
        (("update",), True, "update"),
        (("start",), False, None),
    ],
)
def test_what_somebody_else_did_is_told_from_what_orch_does(
    bench: Bench, kinds: tuple[str, ...], ending: bool, found: str | None
) -> None:
    bench.availability.follow({"run": "1"})
    wait_until(lambda: ("events", "run") in bench.engine.calls)
    for kind in kinds:
        bench.engine.emit_event("c1", kind)
    bench.engine.emit_event("c2", "pause")
    wait_until(lambda: bench.availability.external_action("c2") is not None)
    assert bench.availability.external_action("c1", ending=ending) == found


def test_an_engine_without_events_is_asked_no_more(bench: Bench) -> None:
    bench.availability.follow({"run": "1"})
    for number in range(1, presence_module.SHORT_STREAMS + 1):
        wait_until(lambda count=number: bench.engine.calls.count(("events", "run")) >= count)  # type: ignore[misc]
        bench.engine.end_events()
    time.sleep(0.1)
    assert bench.engine.calls.count(("events", "run")) == presence_module.SHORT_STREAMS


def test_how_long_to_wait_is_a_setting() -> None:
    assert away_seconds({}) == AWAY_SECONDS
    assert away_seconds({"ORCH_ENGINE_AWAY_SECONDS": "7.5"}) == 7.5
    with pytest.raises(UsageError, match="ORCH_ENGINE_AWAY_SECONDS is no number of seconds: soon"):
        away_seconds({"ORCH_ENGINE_AWAY_SECONDS": "soon"})
