"""Call a function in a background thread, a fixed time after the first item of a batch was added."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class BatchTimer:
    """Calls `flush` for each batch. The thread is created with the first batch and sleeps while no items wait."""

    def __init__(self, flush: Callable[[], None], seconds: float) -> None:
        """`flush` is called `seconds` after `begin`, or earlier by `close`."""
        self._flush = flush
        self._seconds = seconds
        self._waits = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Note that an item waits; further calls before the flush have no effect. Raises the error of an earlier
        flush.
        """
        if self._waits.is_set():
            return
        if self._error is not None:
            raise self._error
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="orch-database", daemon=True)
            self._thread.start()
        self._waits.set()

    def close(self) -> None:
        """Flush, and end the thread. Raises the error of this or an earlier flush."""
        self._closing.set()
        self._waits.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error
        self._flush()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._waits.wait()
            self._closing.wait(self._seconds)
            self._waits.clear()  # before the flush: an item added meanwhile begins a new batch
            try:
                self._flush()
            except BaseException as error:  # noqa: BLE001 - raised again where the results come from
                self._error = error
                return
