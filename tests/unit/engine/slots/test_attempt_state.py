from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.agent.output_reader import AgentOutputReader
from orchestrator.engine.slots.attempt_state import NOT_AGAIN, AttemptState, InFlightTest
from orchestrator.engine.slots.retirement import SIGNALLED
from orchestrator.model.evidence import AgentRecord, LeftoverFiles, LeftoverIpc, LeftoverProcess
from tests.support.handmade import make_assignment, make_slot_output

if TYPE_CHECKING:
    from pathlib import Path

SLEEP = LeftoverProcess(pid=9, command_line="sleep 300")
SEGMENT = LeftoverIpc(kind="shm", name="1", amount=4096)
SHM, TMP = (LeftoverFiles(place=place, entries=1, names=("x",)) for place in ("/dev/shm", "/tmp"))
NICE = f"{NOT_AGAIN}: the test changed the priority of process 1"


@pytest.mark.parametrize(
    ("left", "ended", "retired", "unclean"),
    [
        ({}, {}, None, None),
        ({"leftovers": (SLEEP,)}, {}, None, "left 1 process running"),
        ({"ipc": (SEGMENT,)}, {}, None, "left shared memory or IPC objects"),
        ({"places": (SHM,)}, {}, None, "left shared memory or IPC objects"),
        ({"places": (TMP,), "modes": ("/tmp",)}, {}, None, None),
        ({"dirty": ("/tmp",)}, {}, None, "changed what could not be set back: /tmp"),
        ({}, {}, NICE, "changed the priority of process 1"),
        ({}, {}, SIGNALLED, None),
        ({}, {}, f"{NOT_AGAIN}: 99 bytes stay charged to it between tests", None),
        ({"leftovers": (SLEEP,)}, {"timed_out": True}, None, None),
        ({"leftovers": (SLEEP,)}, {"interrupted": True}, NICE, None),
    ],
)
def test_what_a_test_left_or_changed_is_said_unless_it_was_ended(
    tmp_path: Path, left: dict[str, Any], ended: dict[str, bool], retired: str | None, unclean: str | None
) -> None:
    assignment = make_assignment("true")
    reader = AgentOutputReader(assignment, tmp_path, first=True)
    test = InFlightTest(assignment=assignment, reader=reader, position=2, first=True, keep=True)
    test.retire_reason = retired
    output = make_slot_output(record=AgentRecord(exit_code=0, **left), **ended)
    reader.close()
    slot = AttemptState(output=output).evidence(None, test, 0.0).slot
    assert (slot.position, slot.unclean) == (2, unclean)
