"""Determines the reasons not to use a slot again after a test, as far as they are visible from outside.

At the time of the check the next test may already run; `next_started` names that test, which may be the cause.
docs/design/engine/reused-slots.md has the measurements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engine.slots.attempt_state import NOT_AGAIN, OWN_DOING
from orchestrator.measure.reused_slot import agent_counters

if TYPE_CHECKING:
    from orchestrator.engine.slots.attempt_state import InFlightTest
    from orchestrator.engine.slots.open_slot import OpenSlot
    from orchestrator.model.tests import Assignment

SIGNALLED = f"{NOT_AGAIN}: a signal that was meant for it may have met the next test"
ENGINE_ENDED = "the engine ended while the test ran"
HIDING_SHARE = 1 / 8
"""A share of the memory limit. Where a memory peak cannot be reset, a slot is retired after a test that needed
more, so that the upper bound for later tests is never near the limit.
"""
FLOOR_SHARE = 0.25
"""A share of the memory limit. A slot with this much more memory charged than at first is retired, because page
cache of earlier tests would be counted as memory of the next one.
"""


def reason_after(slot: OpenSlot, test: InFlightTest, next_started: Assignment | None) -> str | None:
    """Return the reason to retire the slot after `test`, which the agent has just measured; None if there is none.

    Set the slot's memory floor after its first test.
    """
    changed = None if slot.init_process is None else slot.init_process.changed(test.reader.serving)
    if changed is None and slot.session.resized:
        changed = "the size of its streams' buffers"
    if changed is not None:
        return f"{OWN_DOING} {changed}{_unless(next_started)}"
    charged = test.agent_after.memory_bytes
    if charged is None:
        return None
    if not slot.uses_snapshots and _hides_later_peaks(slot, test):
        return f"{NOT_AGAIN}: its memory peak is high and cannot be reset"
    if slot.floor_bytes is None:
        slot.floor_bytes = charged
    if charged - slot.floor_bytes <= FLOOR_SHARE * slot.profile.limits.memory_bytes:
        return None
    return f"{NOT_AGAIN}: {charged} bytes stay charged to it between tests"


def changed_folders_reason(slot: OpenSlot, next_started: Assignment | None) -> str | None:
    """Return the reason to retire the slot for changed writable folders, None if there is none.

    Call it once the agent has reset the changes that it can see.
    """
    changed = () if slot.init_process is None else slot.init_process.changed_folders()
    if not changed:
        return None
    folders = ", ".join(changed)
    return f"{OWN_DOING} the mode or attributes of {folders}{_unless(next_started)}"


def _unless(next_started: Assignment | None) -> str:
    return "" if next_started is None else f" (unless {next_started.test.id} did, which had begun)"


def _hides_later_peaks(slot: OpenSlot, test: InFlightTest) -> bool:
    """Return whether the test raised the memory peak so far that it would hide the peaks of the tests after it."""
    before, after = agent_counters(test.reader.before), test.agent_after
    peak, now = after.memory_peak_bytes, after.memory_bytes
    if before.memory_peak_bytes is None or peak is None or now is None or peak <= before.memory_peak_bytes:
        return False
    if before.memory_bytes is not None:
        now = min(now, before.memory_bytes)  # its files are removed before the next one
    return peak - now > HIDING_SHARE * slot.profile.limits.memory_bytes
