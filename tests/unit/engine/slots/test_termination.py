from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.slots import termination
from orchestrator.engine.slots.termination import Termination
from orchestrator.errors import EngineError
from orchestrator.testing.engine import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Monotonic time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(termination, "time", made)
    return made


class Calls(FakeEngine):
    """Notes what is sent, in order; nothing of it has an effect."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def run_inside(self, container: str, argv: tuple[str, ...], timeout_seconds: float) -> int:
        assert (container, timeout_seconds) == ("c", termination.INSIDE_SECONDS)
        self.sent.append(argv[-1])
        raise EngineError("cannot start a process")

    def kill(self, container: str, signal_name: str = "KILL") -> None:
        assert container == "c"
        self.sent.append(f"engine {signal_name}")


def settle(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_nothing_is_sent_before_it_begins(clock: Clock) -> None:
    engine = Calls()
    made = Termination(engine, "c", 2.0)
    clock.now += 1e9
    made.step()
    assert engine.sent == []


def test_what_can_be_signalled_from_outside_is_not_from_inside(clock: Clock) -> None:
    engine, sent = Calls(), list[str]()

    def outside(name: str) -> bool:
        sent.append(name)
        return name == "TERM"

    made = Termination(engine, "c", 2.0, signal=outside)
    made.begin()
    made.step()
    settle(lambda: sent == ["TERM"])
    clock.now += 2.0
    made.step()
    settle(lambda: engine.sent == ["kill -KILL -1"])  # it was not heard outside
    assert sent == ["TERM", "KILL"]


def test_term_then_kill_then_the_engine(clock: Clock) -> None:
    engine, kills = Calls(), list[int]()
    made = Termination(engine, "c", 2.0)
    made.begin()
    expected = ["kill -TERM -1"]
    for wait, then in ((1.99, None), (0.02, "kill -KILL -1"), (1.9, None), (0.2, "engine KILL")):
        made.step()
        settle(lambda sent=expected: engine.sent == sent)  # type: ignore[misc]  # bound here
        made.begin()  # further calls change nothing
        clock.now += wait
        if made.kills_now:
            kills.append(len(engine.sent))
        made.step()
        expected = [*expected, then] if then else expected
    settle(lambda: engine.sent == expected)
    assert kills == [2], "it is announced right before the engine's kill, and only then"
    assert not made.kills_now
    clock.now += termination.GIVE_UP_SECONDS - 1
    made.step()
    clock.now += 2
    with pytest.raises(EngineError, match="could not end container c"):
        made.step()


def test_at_once_goes_to_the_engine(clock: Clock) -> None:
    engine = Calls()
    made = Termination(engine, "c", 2.0)
    made.begin(at_once=True)
    made.step()
    settle(lambda: engine.sent == ["engine KILL"])
    made.begin()
    made.begin(at_once=True)
    clock.now += 10
    made.step()
    assert engine.sent == ["engine KILL"]


def test_at_once_shortens_what_is_under_way(clock: Clock) -> None:
    engine = Calls()
    made = Termination(engine, "c", 60.0)
    made.begin()
    made.step()
    settle(lambda: engine.sent == ["kill -TERM -1"])
    made.begin(at_once=True)
    made.step()
    settle(lambda: engine.sent == ["kill -TERM -1", "engine KILL"])
