"""Ends a test that must stop: TERM to all it started, the grace, KILL, and the container itself at last.

The signals spare process 1, so the agent lives to write its end record and the outputs come back. They are sent
from outside where that can be done (see `signal`), else from inside (`kill -TERM -1`). What cannot be signalled
from there either (no process may be started, nothing answers) is ended by the engine. Each step runs beside the
reader, which must go on draining the test's output.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.engine.base import ContainerEngine

INSIDE_SECONDS = 5.0
AFTER_KILL_SECONDS = 2.0
"""For the agent to write its record after KILL, before the container goes."""
GIVE_UP_SECONDS = 20.0
"""After the engine was told to kill: a container that still has not ended is the engine's failure."""


class Termination:
    """One escalation. Nothing is sent until `begin`; `step` is called by the reader from time to time."""

    def __init__(
        self,
        engine: ContainerEngine,
        container: str,
        grace_seconds: float,
        *,
        before_kill: Callable[[], None] = lambda: None,
        can_exec: bool = True,
        signal: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`before_kill` is called when the engine is about to end the container: the last chance to read it.
        `can_exec` False: nothing can be run in there, so TERM too is the engine's to send. `signal` sends the
        signal of that name without the engine; False: it could not.
        """
        self._engine = engine
        self._container = container
        self._grace = grace_seconds
        self._before_kill = before_kill
        self._can_exec = can_exec
        self._signal = signal
        self._begun = self._at_once = False
        self._next: list[tuple[float, str]] = []
        self._given_up_at = float("inf")

    def begin(self, *, at_once: bool = False) -> None:
        """Start with TERM, or with the engine's KILL, which also shortens what is under way. Further calls
        change nothing.
        """
        now = time.monotonic()
        if at_once and not self._at_once:
            self._at_once = True
            self._next = [(now, "engine")]
        elif not self._begun:
            kill_at = now + self._grace
            self._next = [(now, "TERM"), (kill_at, "KILL"), (kill_at + AFTER_KILL_SECONDS, "engine")]
            if not self._can_exec:
                self._next = [(now, "TERM"), (kill_at, "engine")]
        else:
            return
        self._begun = True
        self._given_up_at = self._next[-1][0] + GIVE_UP_SECONDS

    def step(self) -> None:
        """Take the steps that are due. Raises EngineError when nothing has helped."""
        now = time.monotonic()
        while self._next and self._next[0][0] <= now:
            _, action = self._next.pop(0)
            threading.Thread(target=self._act, args=(action,), name=f"orch-end-{action}", daemon=True).start()
        if now > self._given_up_at:
            raise EngineError(f"the engine could not end container {self._container[:12]}")

    def _act(self, action: str) -> None:
        try:
            if action == "engine":
                self._before_kill()
                self._engine.kill(self._container)
            elif not self._can_exec:
                self._engine.kill(self._container, action)
            elif not self._signal(action):
                argv = ("/bin/sh", "-c", f"kill -{action} -1")
                self._engine.run_inside(self._container, argv, INSIDE_SECONDS)
        except EngineError:
            return  # it ended meanwhile, or the next step is stronger; the last one is watched by `step`
