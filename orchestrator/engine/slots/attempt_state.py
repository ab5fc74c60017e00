"""The state of one attempt in a slot, from its order to its evidence."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.measure.reused_slot import NOT_READ
from orchestrator.model.evidence import Evidence, Launch, OutputLog, SlotUse, Timings
from orchestrator.model.usage import Usage

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
NOT_AGAIN = "its container is not used again"


@dataclass(slots=True)
class StagedTest:
    """A test whose order has been written but which has not started."""

    assignment: Assignment
    session: AgentSession
    reader: OutputReader
    line: bytes
    """The line that releases it."""
    keep: bool
    """Whether the slot may take another test after it."""
    released: bool = False
    """Whether the agent has that line, and starts the test when the one before it has ended and left nothing."""

    def release(self) -> None:
        """Send its line to the agent. Raises EngineError."""
        self.released = True
        self.session.release(self.line)


@dataclass(slots=True)
class InFlightTest:
    """A test that has been released and has not been read to its end."""

    assignment: Assignment
    reader: OutputReader
    position: int
    """Its number among the tests of its slot, from 1."""
    first: bool
    """Whether the agent reads all counters before it."""
    keep: bool
    """Whether the slot may take another test after it."""
    before: CounterSnapshot | None = None
    """The snapshot taken before it; None if the slot is not measured by snapshots."""
    after: CounterSnapshot | None = None
    """The snapshot taken after it."""
    overlapped: bool = False
    """Whether it may have started before the snapshot `before` was taken."""
    next_released: bool = False
    """Whether the agent started the next test without waiting for orch."""
    retire_reason: str | None = None
    """Why the slot is not used again, although its agent waits for another test."""
    agent_before: Counters = NOT_READ
    """What the agent read before it, if that was after another test."""
    agent_after: Counters = NOT_READ
    """What the agent read after it."""
    witnessed: bool = False
    """Whether the first process that the agent forks after the release is this test's."""
    kernel_exit_code: int | None = None
    """The exit code by the kernel's process events."""


@dataclass(slots=True)
class AttemptState:
    """What is known of one attempt so far."""

    began: float = field(default_factory=time.monotonic)
    """The monotonic time at which it left the queue."""
    ended: float = 0.0
    """The monotonic time at which its output had been read."""
    output: SlotOutput | None = None
    engine_state: EngineState | None = None
    failure: str | None = None
    """Why nothing is known of the test: trouble with the engine or the container."""
    stopped: bool = False
    """Whether the run was stopped while the attempt waited for the engine."""
    attestation: Attestation | None = None
    usage: Usage = field(default_factory=Usage)
    samples: tuple[Sample, ...] = ()
    waited_seconds: float | None = None
    """How long the test could not run because others used the CPUs."""
    starved: bool = False
    """Whether it timed out for want of CPU time."""
    kept: bool = False
    """Whether the container was left running for another test."""
    create_seconds: float = 0.0
    start_seconds: float = 0.0
    leaked: tuple[str, ...] = ()
    """Names of what could not be removed."""

    def evidence(self, slot: OpenSlot | None, test: InFlightTest | None, queue_seconds: float) -> Evidence:
        """Return the evidence of the attempt; `slot` and `test` are None if it did not get so far."""
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
    return SlotUse(position=test.position, launch=launch, note="; ".join(filter(None, notes)) or None)
