"""Ends a test that must stop: TERM to all its processes, KILL after the grace period, then the container itself.

The signals are not sent to process 1, so that the agent can write its end record and return the outputs. They are
sent from outside where possible (`signal`), else from inside (`kill -TERM -1`). If neither works (no process can
be started, nothing answers), the engine ends the container. Each step runs in a thread of its own, because the
reader must continue to read the test's output.
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
"""The time limit of the `kill` command inside the container."""
AFTER_KILL_SECONDS = 2.0
"""The agent's time to write its record after KILL, before the container is ended."""
GIVE_UP_SECONDS = 20.0
"""The time after the engine's kill of the container: if it still runs then, the engine has failed."""


class Termination:
    """The steps that end one test. `begin` starts them; from then on, call `step` at short intervals."""

    def __init__(
        self,
        engine: ContainerEngine,
        container: str,
        grace_seconds: float,
        *,
        can_exec: bool = True,
        signal: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Prepare to end the test in `container`, with `grace_seconds` between TERM and KILL.

        Without `can_exec`, no command can be run inside, so the engine sends TERM too. `signal` sends the signal
        of the given name without the engine, and returns False if that is impossible.
        """
        self._engine = engine
        self._container = container
        self._grace = grace_seconds
        self._can_exec = can_exec
        self._signal = signal
        self._at_once = False
        self._next: list[tuple[float, str]] = []
        self._given_up_at = float("inf")
        self.begun = False
        """True if `begin` was called."""
        self.timed_out = self.interrupted = False
        """The cause, which the caller sets: the test's time was over, or the run was stopped."""

    def begin(self, *, at_once: bool = False) -> None:
        """Start with TERM, or with `at_once` kill the container now, also if the steps have begun.

        Other calls after the first do nothing.
        """
        now = time.monotonic()
        if at_once and not self._at_once:
            self._at_once = True
            self._next = [(now, "engine")]
        elif not self.begun:
            kill_at = now + self._grace
            self._next = [(now, "TERM"), (kill_at, "KILL"), (kill_at + AFTER_KILL_SECONDS, "engine")]
            if not self._can_exec:
                self._next = [(now, "TERM"), (kill_at, "engine")]
        else:
            return
        self.begun = True
        self._given_up_at = self._next[-1][0] + GIVE_UP_SECONDS

    @property
    def kills_now(self) -> bool:
        """True if the next `step` makes the engine kill the container."""
        now = time.monotonic()
        return any(action == "engine" and at <= now for at, action in self._next)

    def step(self) -> None:
        """Take the steps that are due. Raises EngineError if the container still runs after the last one."""
        now = time.monotonic()
        while self._next and self._next[0][0] <= now:
            _, action = self._next.pop(0)
            threading.Thread(target=self._act, args=(action,), name=f"orch-end-{action}", daemon=True).start()
        if now > self._given_up_at:
            raise EngineError(f"the engine could not end container {self._container[:12]}")

    def _act(self, action: str) -> None:
        try:
            if action == "engine":
                self._engine.kill(self._container)
            elif not self._can_exec:
                self._engine.kill(self._container, action)
            elif not self._signal(action):
                argv = ("/bin/sh", "-c", f"kill -{action} -1")
                self._engine.run_inside(self._container, argv, INSIDE_SECONDS)
        except EngineError:
            return  # the container has ended, or a stronger step follows; `step` checks the last one
