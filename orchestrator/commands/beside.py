"""Half of a report's work on another processor: a fork of this process works out an answer and hands it over.

Threads would not do: what takes the time is Python, of which one thread runs at a time.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Helper(Generic[T]):
    """An answer that is being worked out elsewhere, or will have to be worked out here."""

    def __init__(self, child: _Child | None) -> None:
        self._child = child

    def begin(self) -> None:
        """What the answer rests on is ready: a database, say, has been brought up to date."""
        if self._child is not None:
            self._child.begin()

    def answer(self) -> T | None:
        """It, once; None where there is no other processor or process, or where it failed: work it out here."""
        if self._child is None:
            return None
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            found: T = pickle.loads(self._child.rest())  # noqa: S301 - of a process that this one has made
            return found
        return None


@contextmanager
def beside(work: Callable[[], T], *, worthwhile: bool = True) -> Iterator[Helper[T]]:
    """Have `work` done in a fork of this process, from `Helper.begin` on, while the caller does something else.

    Call it where no database is open: SQLite's connections and locks do not survive a fork
    (https://www.sqlite.org/howtocorrupt.html, 2.6). `work` must open what it needs; its answer is pickled.
    """
    child = None
    if worthwhile and _can_fork():
        from orchestrator.database.store import store  # noqa: F401 - 0.3 s, once for both instead of in each

        with suppress(OSError):  # there is no room for another process: the caller does it all
            child = _Child(work)
    try:
        yield Helper(child)
    finally:
        if child is not None:
            child.end()


def _can_fork() -> bool:
    """There is a second processor to use, and no thread that would be missing in a fork."""
    if not hasattr(os, "fork") or threading.active_count() > 1:
        return False
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) > 1


class _Child:
    """A fork of this process that waits for a byte, works, answers, and ends without any of Python's farewells."""

    def __init__(self, work: Callable[[], object]) -> None:
        waits, self._go = os.pipe()
        self._answer, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._go)
            os.close(self._answer)
            _serve(work, waits, answers)
        os.close(waits)
        os.close(answers)

    def begin(self) -> None:
        with suppress(BrokenPipeError):
            os.write(self._go, b"1")

    def rest(self) -> bytes:
        """All that it answers."""
        with open(self._answer, "rb", closefd=False) as pipe:
            return pipe.read()

    def end(self) -> None:
        """Whether or not it was asked."""
        os.close(self._go)
        os.close(self._answer)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _serve(work: Callable[[], object], waits: int, answers: int) -> NoReturn:
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if os.read(waits, 1):
            data = pickle.dumps(work(), protocol=pickle.HIGHEST_PROTOCOL)
            with open(answers, "wb") as pipe:
                pipe.write(data)
    finally:
        os._exit(0)  # whatever was raised: no answer, and the caller finds out what is wrong by itself
