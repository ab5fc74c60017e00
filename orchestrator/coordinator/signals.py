"""Handle the signals of a run: the first stop ends tests gently, the second kills them, SIGUSR1 lists them."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Self

from orchestrator.stop_flag import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from orchestrator.stop_flag import StopFlag

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Context manager that installs the signal handlers of a run.

    `received` is the number of the first signal that stopped it.
    """

    def __init__(self, stop: StopFlag, running: Callable[[], Iterable[str]]) -> None:
        self._stop = stop
        self._running = running
        self._before: dict[int, object] = {}
        self.received: int | None = None

    def __enter__(self) -> Self:
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._on_stop)
        self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._on_question)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() itself returned

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is None:
            self.received = number
            self._stop.set(StopLevel.TERMINATE, f"stopped by {name}")
        else:
            self._stop.set(StopLevel.KILL, f"stopped at once by {name}")

    def _on_question(self, _number: int, _frame: FrameType | None) -> None:
        for line in self._running():
            print(line, file=sys.stderr)
