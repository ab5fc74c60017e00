"""The state of one attempt in a slot, from the agent's order to the attempt's evidence."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.measure.reused_slot import NOT_READ
from orchestrator.model.evidence import Evidence, Launch, OutputLog, SlotUse, Timings
from orchestrator.model.usage import Usage
from orchestrator.text import plural

if TYPE_CHECKING:
    from orchestrator.engine.agent.output_reader import OutputReader, SlotOutput
    from orchestrator.engine.slots.open_slot import OpenSlot
    from orchestrator.engine.slots.session import AgentSession
    from orchestrator.measure.counters import Counters
    from orchestrator.measure.reused_slot import CounterSnapshot
    from orchestrator.model.evidence import Attestation, EngineState
    from orchestrator.model.tests import Assignment
    from orchestrator.model.usage import Sample

NO_OUTPUT = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")
SHM = "/dev/shm"  # noqa: S108 - inside the container, a tmpfs of its own
NOT_AGAIN = "its container is not used again"
OWN_DOING = f"{NOT_AGAIN}: the test changed"
"""The beginning of the reasons to retire a slot that are changes made by the test."""


@dataclass(slots=True)
class StagedTest:
    """A test whose order has been written but which has not started."""

    assignment: Assignment
    session: AgentSession
    reader: OutputReader
    line: bytes
    """The line that tells the agent to start the test."""
    keep: bool
    """True if the slot may take another test after this one."""
    released: bool = False
    """True if `line` was sent. The agent then starts the test once the one before has ended and left nothing."""

    def release(self) -> None:
        """Send `line` to the agent. Raises EngineError."""
        self.released = True
        self.session.release(self.line)


@dataclass(slots=True)
class InFlightTest:
    """A test that has been released and has not been read to its end."""

    assignment: Assignment
    reader: OutputReader
    position: int
    """The test's number in its slot, from 1."""
    first: bool
    """True if the agent reads all counters before the test."""
    keep: bool
    """True if the slot may take another test after this one."""
    before: CounterSnapshot | None = None
    """The snapshot taken before the test; None if the slot is not measured by snapshots."""
    after: CounterSnapshot | None = None
    """The snapshot taken after the test; None until then."""
    overlapped: bool = False
    """True if the test may have started before the snapshot `before` was taken."""
    next_released: bool = False
    """True if the agent started the next test without waiting for orch."""
    retire_reason: str | None = None
    """The reason not to use the slot again, although its agent waits for another test; None if there is none."""
    agent_before: Counters = NOT_READ
    """The agent's counters at the end of the previous test in the slot."""
    agent_after: Counters = NOT_READ
    """The agent's counters at the end of this test."""
    witnessed: bool = False
    """True if the agent's first fork after the release is this test, so that the kernel's events apply to it."""
    kernel_exit_code: int | None = None
    """The exit code from the kernel's process events; None if there was no event."""


@dataclass(slots=True)
class AttemptState:
    """The facts about one attempt, filled in as it proceeds."""

    began: float = field(default_factory=time.monotonic)
    """The monotonic time at which the attempt left the queue."""
    ended: float = 0.0
    """The monotonic time at which all output had been read."""
    output: SlotOutput | None = None
    engine_state: EngineState | None = None
    failure: str | None = None
    """The failure of the engine or container that leaves the test's result unknown; None if there was none."""
    stopped: bool = False
    """True if the run was stopped while the attempt waited for the engine."""
    attestation: Attestation | None = None
    usage: Usage = field(default_factory=Usage)
    samples: tuple[Sample, ...] = ()
    waited_seconds: float | None = None
    """The seconds in which the test could not run because other processes used the CPUs; None if unknown."""
    starved: bool = False
    """True if the test timed out because it got too little CPU time."""
    kept: bool = False
    """True if the container was left running for another test."""
    create_seconds: float = 0.0
    start_seconds: float = 0.0
    leaked: tuple[str, ...] = ()
    """The names of objects that could not be removed."""

    def evidence(self, slot: OpenSlot | None, test: InFlightTest | None, queue_seconds: float) -> Evidence:
        """Return the evidence of the attempt; `slot` and `test` are None if it failed before there was one."""
        output = self.output
        return Evidence(
            agent=output.record if output else None,
            agent_expected=slot is None or slot.session.has_agent,
            engine=self.engine_state,
            timed_out=output is not None and output.timed_out,
            interrupted=self.stopped or (output is not None and output.interrupted),
            engine_failure=self.failure,
            usage=self.usage,
            samples=self.samples,
            stdout=output.stdout if output else NO_OUTPUT,
            stderr=output.stderr if output else NO_OUTPUT,
            outputs=output.outputs if output else (),
            outputs_notes=output.outputs_notes if output else (),
            leaked_objects=self.leaked,
            timings=Timings(
                queue_seconds=max(0.0, queue_seconds),
                create_seconds=self.create_seconds,
                start_seconds=self.start_seconds + (output.prepare_seconds if output else 0.0),
                test_seconds=output.test_seconds if output else 0.0,
                teardown_seconds=time.monotonic() - self.ended,
            ),
            started_at=output.started_at if output else datetime.now(UTC),
            attestation=self.attestation,
            slot=_slot_use(test, output),
            kept=self.kept,
            kernel_exit_code=test.kernel_exit_code if test is not None else None,
            cpu_waited_seconds=self.waited_seconds,
            starved=self.starved,
        )


def _slot_use(test: InFlightTest | None, output: SlotOutput | None) -> SlotUse:
    """Return the test's position in its slot, how it was launched, and notes on the slot."""
    if test is None:
        return SlotUse()
    launch, refusal = output.launch if output else (Launch.PROCESS, None)
    notes = [refusal, test.retire_reason]
    record = None if output is None else output.record
    if record is not None and record.dirty:
        notes.append(f"{NOT_AGAIN}: what could not be set back: {', '.join(record.dirty)}")
    elif record is not None and record.modes:
        notes.append(f"the test changed the mode of {' and '.join(record.modes)}, which was set back")
    note = "; ".join(filter(None, notes)) or None
    return SlotUse(position=test.position, launch=launch, note=note, unclean=_unclean(test, output))


def _unclean(test: InFlightTest, output: SlotOutput | None) -> str | None:
    """Return what the test left or changed in its container; None for nothing, or if the test was ended.

    What a test that was ended left behind says nothing about it, because it could not clean up.
    """
    record = None if output is None else output.record
    if output is None or record is None or output.timed_out or output.interrupted:
        return None
    if record.leftovers:
        return f"left {plural(len(record.leftovers), 'process', 'processes')} running"
    if record.ipc or any(place.place == SHM and place.entries for place in record.places):
        return "left shared memory or IPC objects"
    if record.dirty:
        return f"changed what could not be set back: {', '.join(record.dirty)}"
    reason = test.retire_reason
    return (
        None
        if reason is None or not reason.startswith(OWN_DOING)
        else reason.removeprefix(f"{NOT_AGAIN}: the test ")
    )
