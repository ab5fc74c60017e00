"""Opens a lane's next slot in the background while its current one takes its last tests."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.engine.slots.open_slot import OpenSlot
    from orchestrator.model.tests import Assignment


class StandbySlot:
    """A slot that a separate thread opens."""

    def __init__(self, open_standby: Callable[[Assignment], OpenSlot], assignment: Assignment) -> None:
        """Start to open the slot. `assignment` is any test that it could take."""
        self._found: OpenSlot | None = None
        self._thread = threading.Thread(
            target=self._open, args=(open_standby, assignment), name="orch-standby", daemon=True
        )
        self._thread.start()

    def _open(self, open_standby: Callable[[Assignment], OpenSlot], assignment: Assignment) -> None:
        # a failure will occur again, and be reported, when the lane opens a slot for its next test
        with suppress(EngineError, OSError):
            self._found = open_standby(assignment)

    def get(self) -> OpenSlot | None:
        """Wait for the slot and return it; return None if it could not be opened."""
        self._thread.join()
        return self._found
