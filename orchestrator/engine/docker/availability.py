"""Waits for an engine that went away, and records what other programs do to a run's containers.

An engine that is restarted ends all containers (unless configured otherwise) and does not answer for seconds.
Tests that have not begun are not affected by that, so no operation is tried until the engine is back. One thread
follows the engine's events: the end of the stream is the first sign that the engine ended, and events show actions
of others that leave no trace in the container (`docker pause`). docs/design/engine/engine-away.md has the
measurements.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from orchestrator.engine.docker.connect_errors import AWAY_SECONDS, AWAY_VARIABLE
from orchestrator.errors import EngineError, EngineTimeoutError, EngineUnavailableError, StoppedWaitingError
from orchestrator.stop_flag import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.engine.base import ContainerEngine, EventStream
    from orchestrator.stop_flag import StopFlag

T = TypeVar("T")
PING_SECONDS = 5.0
PAUSE_SECONDS = 0.2
SETTLE_SECONDS = 0.3
"""The time within which the event of an action arrives, because engines send it after the action."""
SHORT_SECONDS = 1.0
SHORT_STREAMS = 3
"""The number of event streams shorter than `SHORT_SECONDS` after which the engine is assumed to have no events."""
_BACKEND_WORDS = ("transport is closing", "error while dialing", "containerd.sock", "context canceled")
"""Parts of the error messages of a dockerd that is shutting down or has lost its containerd."""
EXTERNAL_ACTIONS = {
    "restart": "restarted externally (docker restart)",
    "stop": "stopped externally (docker stop)",
    "pause": "paused externally (docker pause)",
    "unpause": "paused externally (docker pause)",
    "update": "given other limits externally (docker update)",
    "exec_create": "entered externally (docker exec)",
    "exec_start": "entered externally (docker exec)",
    "kill": "killed externally (docker kill)",
}
"""The description of each event by which another program acts on a container, the most severe first."""
OWN_ACTIONS = frozenset({"kill", "exec_create", "exec_start"})
"""The actions that orch itself also takes, to end a test."""
ENGINE_ACTIONS = frozenset({"kill", "stop"})
"""The actions that an engine itself also takes, when it shuts down."""


class EngineAvailability:
    """The availability of one engine during one run. Any thread may call any method."""

    def __init__(
        self,
        engine: ContainerEngine,
        stop: StopFlag,
        *,
        notify: Callable[[str], None] = lambda _: None,
        patience_seconds: float = AWAY_SECONDS,
    ) -> None:
        """Observe one engine during one run.

        `notify` is called with one line when the engine goes away and one when it is back. The run is stopped
        after `patience_seconds` without an answer.
        """
        self._engine = engine
        self._stop = stop
        self._notify = notify
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._was_away = False
        self._generation = 0
        self._external_actions: dict[str, dict[str, None]] = {}
        self._limits_lock = threading.Lock()
        self._limited: dict[str, int] = {}
        """The number of `update` events that orch's own changes of limits will still cause, by container."""
        self._stream: EventStream | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._follows = False
        """True while the event stream is followed, so that the end of the engine is noticed."""

    # ------------------------------------------------------------ waiting for the engine

    @property
    def generation(self) -> int:
        """The number of times that the engine is known to have ended."""
        return self._generation

    @property
    def was_away(self) -> bool:
        """True if the engine has ended, or not answered, since the run began."""
        return self._generation > 0 or self._was_away

    def retry(self, act: Callable[[], T], *, ask: bool = False) -> T:
        """Return `act()`; if it fails because the engine went away, wait for the engine and call it again.

        `act` must clean up after its own failure. With `ask`, the engine is pinged first: an engine that is
        shutting down still answers on existing connections. Raises what `act` raises for other reasons, and
        EngineUnavailableError if the engine stays away.
        """
        began = time.monotonic()
        while True:
            if ask and self._away_since is None and not self._answers():
                self._note_away()
            self.wait()
            life = self.generation
            try:
                return act()
            except EngineError as error:
                if not self.went_away(error, life) or time.monotonic() - began > self._patience_seconds:
                    raise
            time.sleep(PAUSE_SECONDS)

    def went_away(self, error: EngineError | None, life: int) -> bool:
        """Return whether the engine has gone away since its generation `life`, or is going away now.

        If so, a failed operation says nothing about a test, and `wait` waits for the engine. `error` is the
        exception of the failed call, if there is one.
        """
        if not self._answers():
            self._note_away()
            return True
        return life != self.generation or (error is not None and _means_away(error))

    def wait(self, at_most: float | None = None) -> None:
        """Return once the engine answers; at once if it is not known to be away.

        Raises EngineUnavailableError if it does not come back in time (`at_most` seconds, if that is less than the
        run's own limit), and StoppedWaitingError if the run is being stopped.
        """
        with self._lock:
            since = self._away_since
            if since is None:
                return
            patience = self._patience_seconds if at_most is None else min(at_most, self._patience_seconds)
            began = time.monotonic()
            while not self._answers():
                now = time.monotonic()
                if at_most is not None and now - began >= at_most:
                    raise EngineUnavailableError(f"the engine is away since {_clock(now - since)}")
                if now - since >= patience:
                    self._give_up(now - since)
                if self._stop.wait(PAUSE_SECONDS, above=StopLevel.DRAIN) >= StopLevel.TERMINATE:
                    raise StoppedWaitingError("stopped while it waited for the engine")
            self._away_since = None
            if not self._follows:
                self._generation += 1  # it is unknown whether the engine ended or was only silent
        seconds = time.monotonic() - since
        self._notify(f"the engine is back after {seconds:.1f} s: what ran meanwhile is run once more")

    def _give_up(self, seconds: float) -> None:
        reason = f"the engine has not come back within {self._patience_seconds:g} s"
        self._stop.set(StopLevel.TERMINATE, reason)
        raise EngineUnavailableError(
            f"{reason} (away since {_clock(seconds)})",
            remedy=f"orch doctor tells whether it answers; {AWAY_VARIABLE} is how long orch waits",
        )

    def _note_away(self) -> None:
        with self._lock:
            if self._away_since is not None or self._answers():  # it may have come back since the last ping
                return
            self._away_since = time.monotonic()
            self._was_away = True
        self._notify(
            f"the engine at {self._engine.info.address} does not answer since {_clock(0)}: tests wait for it,"
            f" at most {self._patience_seconds:g} s ({AWAY_VARIABLE})"
        )

    def _answers(self) -> bool:
        try:
            self._engine.ping(PING_SECONDS)
        except EngineError:
            return False
        return True

    # ------------------------------------------------------------ actions of others

    def follow(self, labels: Mapping[str, str]) -> None:
        """Follow the events of the containers with these labels in a thread, until `close`."""
        self._follows = True
        self._thread = threading.Thread(target=self._follow, args=(labels,), name="orch-events", daemon=True)
        self._thread.start()

    def external_action(self, container: str, *, ending: bool = False, settle: bool = False) -> str | None:
        """Return the most severe of `EXTERNAL_ACTIONS` of other programs on a container, None if there was none.

        With `ending`, actions that orch also takes to end a test do not count. With `settle`, wait
        `SETTLE_SECONDS` first, so that the event of a recent action can arrive.
        """
        if settle and self._follows:
            self._closed.wait(SETTLE_SECONDS)
        seen = self._external_actions.get(container, {})
        return next(
            (kind for kind in EXTERNAL_ACTIONS if kind in seen and not (ending and kind in OWN_ACTIONS)), None
        )

    def limit_memory(self, container: str, memory_bytes: int) -> None:
        """Set the memory limit of a container, without counting it as an external action. Raises EngineError."""
        with self._limits_lock:
            self._limited[container] = self._limited.get(container, 0) + 1
        try:
            self._engine.limit_memory(container, memory_bytes)
        except EngineError:
            self._is_own(container)
            raise

    def _is_own(self, container: str) -> bool:
        """Return whether orch itself caused this `update` event, and count the event as received."""
        with self._limits_lock:
            left = self._limited.get(container, 0)
            self._limited[container] = max(0, left - 1)
        return left > 0

    def close(self) -> None:
        """Stop following events, and wait for the thread to end."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread is not None:
            self._thread.join(PING_SECONDS)

    def _follow(self, labels: Mapping[str, str]) -> None:
        short = 0
        since = time.time()
        while not self._closed.is_set() and short < SHORT_STREAMS:
            began = time.monotonic()
            with suppress(EngineError):
                self._stream = self._engine.events(labels, tuple(EXTERNAL_ACTIONS), since)
                if self._closed.is_set():  # `close` may not have seen the new stream
                    self._stream.close()
                    return
                since = self._read_events(self._stream, since)
                if self._closed.is_set():
                    return
                self._generation += 1
                short = short + 1 if time.monotonic() - began < SHORT_SECONDS else 0
            self._closed.wait(PAUSE_SECONDS)
        self._follows = False

    def _read_events(self, stream: EventStream, since: float) -> float:
        """Record the events up to the end of the stream; return the time of the last one in epoch seconds."""
        with suppress(EngineError):
            while (event := stream.next()) is not None:
                actor = event.get("Actor")
                container = str(actor.get("ID") if isinstance(actor, dict) else event.get("id") or "")
                kind = str(event.get("Action") or event.get("status") or "").partition(":")[0]
                if kind in EXTERNAL_ACTIONS and not (kind == "update" and self._is_own(container)):
                    self._external_actions.setdefault(container, {})[kind] = None
                moment = event.get("timeNano")
                if isinstance(moment, int):
                    since = max(since, moment / 1e9)
        stream.close()
        return since


def _means_away(error: EngineError) -> bool:
    """Return whether an error means that the engine is away or shutting down."""
    if isinstance(error, EngineUnavailableError | EngineTimeoutError):
        return True
    text = error.message.lower()
    return any(word in text for word in _BACKEND_WORDS)


def _clock(seconds_ago: float) -> str:
    """Return the local time so many seconds ago, as HH:MM:SS."""
    return datetime.fromtimestamp(time.time() - seconds_ago).astimezone().strftime("%H:%M:%S")
