"""Runs tests in slots that are opened ahead of need, and removed or kept after use."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.slots.idle_slots import IdleSlotPool, idle_limits
from orchestrator.engine.slots.lane import LaneContext, SlotLane
from orchestrator.engine.slots.prestarted_slots import PrestartedSlots, worker_counts
from orchestrator.measure.calibration import NO_CALIBRATIONS, Calibrations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestrator.engine.slots.open_slot import OpenSlot
    from orchestrator.engine.slots.slot_factory import SlotFactory
    from orchestrator.model.evidence import Evidence
    from orchestrator.model.tests import Assignment
    from orchestrator.stop_flag import StopFlag


@dataclass(slots=True)
class Tally:
    """The numbers of containers that were to be created, were created, and were removed."""

    expected: int = 0
    created: int = 0
    removed: int = 0


class LocalExecutor:
    """Runs tests in the slots of one factory. Many threads may run tests at once, each with a lane of its own.

    Several executors may share a factory; each has its own stop flag, slots and tally.
    """

    def __init__(self, slots: SlotFactory, *, stop: StopFlag) -> None:
        """Use the slots of a factory, none of which is opened yet. `stop` ends the tests of all lanes."""
        self.slots = slots
        self.stop = stop
        self.tally = Tally()
        self._lock = threading.Lock()
        info = slots.engine.info
        starters, removers = worker_counts(info.cpus)
        self._prestarted: PrestartedSlots[OpenSlot] = PrestartedSlots(
            self.open, self.close_slot, max_ahead=starters, starters=starters, removers=removers
        )
        max_slots, max_bytes = idle_limits(info)
        self._idle_slots: IdleSlotPool[OpenSlot] = IdleSlotPool(
            self._prestarted.retire, max_slots=max_slots, max_bytes=max_bytes
        )

    def sibling(self, *, stop: StopFlag | None = None) -> LocalExecutor:
        """Return an executor with the same factory whose containers are counted separately.

        `stop` is its stop flag; by default, this executor's.
        """
        return LocalExecutor(self.slots, stop=stop or self.stop)

    def lane_context(self, calibrations: Calibrations = NO_CALIBRATIONS) -> LaneContext:
        """Return the context of this executor's lanes, which correct their figures by `calibrations`."""
        return LaneContext(
            info=self.slots.engine.info,
            availability=self.slots.availability,
            stop=self.stop,
            calibrations=calibrations,
            open_standby=lambda assignment: self.open(assignment, standby=True),
            pinned_image=self.slots.images.pinned,
        )

    def lane(self, calibrations: Calibrations = NO_CALIBRATIONS) -> SlotLane:
        """Return a new lane, whose slots are opened ahead of need and removed in the background."""
        return SlotLane(
            self.lane_context(calibrations),
            take=self._prestarted.take,
            retire=self._prestarted.retire,
            idle_slots=self._idle_slots,
        )

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """Start to open slots for the assignments that are likely to run next, in this order. Return at once."""
        self._prestarted.prepare(assignments)

    def close(self) -> None:
        """Remove the idle and prestarted slots; return once all are removed. Close the lanes before."""
        self._idle_slots.close()
        self._prestarted.close()

    def run(self, assignment: Assignment, queue_seconds: float, folder: Path) -> Evidence:
        """Run one attempt in a lane of its own, whose slot is removed at the end, and return the evidence.

        `folder` exists, and receives stdout, stderr and outputs/.
        """
        lane = SlotLane(self.lane_context(), take=self.open, retire=self.close_slot)
        try:
            return lane.run(assignment, time.monotonic() - queue_seconds, lambda _: folder)
        finally:
            lane.close()

    def open(self, assignment: Assignment, *, standby: bool = False) -> OpenSlot:
        """Open a slot by `SlotFactory.open`, and count it. Raises EngineError."""
        self._count(expected=1)
        slot = self.slots.open(assignment, standby=standby)
        self._count(created=1)
        return slot

    def close_slot(self, slot: OpenSlot) -> None:
        """Remove a slot by `SlotFactory.close`, and count it."""
        self._count(removed=int(self.slots.close(slot)))

    def _count(self, *, expected: int = 0, created: int = 0, removed: int = 0) -> None:
        with self._lock:
            self.tally.expected += expected
            self.tally.created += created
            self.tally.removed += removed
