"""Runs tests one after another, each in a slot of its own or several in one, and returns the evidence of each.

Several tests share a slot where the profile has `reuse`. Then the order for the next test is sent to the agent
while one runs. The agent starts it once it has verified that the previous test left nothing, without waiting for
orch, whose checks from outside end a moment later. If they find a reason not to use the slot again, the test that
has started is run again in another slot. A failure of the engine is part of the evidence (`engine_failure`) and
raises nothing. docs/design/engine/reused-slots.md has the measurements.
"""

from __future__ import annotations

import math
import signal
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.docker.availability import ENGINE_ACTIONS, EXTERNAL_ACTIONS
from orchestrator.engine.isolation.attestation import attest, with_memory_limit
from orchestrator.engine.slots import preload, retirement
from orchestrator.engine.slots.attempt_state import AttemptState, InFlightTest, StagedTest
from orchestrator.engine.slots.retirement import ENGINE_ENDED, SIGNALLED
from orchestrator.engine.slots.session import AgentSession, SlotEvent
from orchestrator.engine.slots.standby_slot import StandbySlot
from orchestrator.errors import EngineError, StoppedWaitingError
from orchestrator.measure.calibration import Calibrations, corrected
from orchestrator.measure.own_memory import TOLERANCE_BYTES
from orchestrator.measure.reused_slot import SnapshotWindow, agent_counters, window_usage
from orchestrator.measure.usage import not_measured
from orchestrator.model.evidence import EngineState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.engine.agent.output_reader import OutputReader, SlotOutput
    from orchestrator.engine.docker.availability import EngineAvailability
    from orchestrator.engine.slots.idle_slots import IdleSlotPool
    from orchestrator.engine.slots.open_slot import OpenSlot
    from orchestrator.model.evidence import AgentRecord, Evidence
    from orchestrator.model.runs import EngineInfo
    from orchestrator.model.tests import Assignment
    from orchestrator.stop_flag import StopFlag

NO_AGENT = "the image has no shell for the agent, which reads this figure"
RUNNING = EngineState(status="running")
STANDBY_AT = 20
"""The number of tests left in the current slot at which the standby slot is opened; both take about 100 ms."""
EARLY_SECONDS = 0.05
"""The longest test during which the next one is already released, if it needs next to no memory either: the 1 ms
that the agent would wait for orch matters for such tests.
"""
MAX_STARTS = 3
"""The largest number of starts of a test whose container is lost before the test begins."""
PREPARE_BYTES = 64 << 20
"""The memory for setting up a pytest with its plugins and conftest files: most need 20 to 40 MiB."""
LIMIT_STEP_BYTES = 1 << 20
LIMIT_SLACK_BYTES = 4 << 20
"""The largest excess of a memory limit that is left as it is: setting one takes the engine 50 ms."""


@dataclass(frozen=True, slots=True)
class _NextTests:
    """The callables from which a lane gets its next test and the folder for its output."""

    upcoming: Callable[[], Assignment | None]
    folder_of: Callable[[Assignment], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneContext:
    """The objects that all lanes of an executor share."""

    info: EngineInfo
    availability: EngineAvailability
    stop: StopFlag
    calibrations: Calibrations
    """The costs of null tests, which are subtracted from the figures."""
    open_standby: Callable[[Assignment], OpenSlot]
    """A function that opens a slot for any test with the same profile."""
    pinned_image: Callable[[str], str]
    """A function that returns the ID that an image had when the run began (`PinnedImages.pinned`)."""


class SlotLane:
    """Runs tests one after another. It is used by one thread; close it."""

    def __init__(
        self,
        context: LaneContext,
        *,
        take: Callable[[Assignment], OpenSlot],
        retire: Callable[[OpenSlot], None],
        idle_slots: IdleSlotPool[OpenSlot] | None = None,
    ) -> None:
        """Use `take` to open a slot for a test, and `retire` to remove one.

        `idle_slots` holds slots that the lane does not need at present; without it, they are removed.
        """
        self._context = context
        self._take = take
        self._retire = retire
        self._idle_slots = idle_slots
        self._slot: OpenSlot | None = None
        self._next_test: InFlightTest | None = None
        """The next test, released before its `run` was called."""
        self._staged: StagedTest | None = None
        self._last_seconds = 0.0
        self._last_bytes: int | None = 0
        self._standby: StandbySlot | None = None

    def run(
        self,
        assignment: Assignment,
        waits_since: float,
        folder_of: Callable[[Assignment], Path],
        upcoming: Callable[[], Assignment | None] = lambda: None,
    ) -> Evidence:
        """Run one attempt and return its evidence.

        `waits_since` is the monotonic time from which the attempt could have run. `folder_of` makes the folder
        that receives an attempt's stdout, stderr and outputs/. `upcoming` returns the assignment that is certain
        to be the next `run`, or None; that test is started when this one ends.
        """
        for _ in range(MAX_STARTS):
            attempt, test = self._run_to_end(assignment, folder_of, upcoming)
            if not self._lost_before_start(attempt, test):
                break
            self._discard()  # the test has not begun
        slot = self._slot
        if slot is not None:
            self._conclude(slot, test, attempt)
        else:
            attempt.usage = not_measured(attempt.failure or "there was no container")
        return attempt.evidence(slot, test, attempt.began - waits_since)

    def close(self) -> None:
        """Remove the lane's slot, and the standby slot."""
        self._discard()
        standby = self._take_standby()
        if standby is not None:
            self._retire(standby)

    # ------------------------------------------------------------ a test's start

    def _run_to_end(
        self,
        assignment: Assignment,
        folder_of: Callable[[Assignment], Path],
        upcoming: Callable[[], Assignment | None],
    ) -> tuple[AttemptState, InFlightTest | None]:
        """Start the test, unless it was released before, and read its output until it or its container ends."""
        attempt = AttemptState()
        test: InFlightTest | None = None
        try:
            slot, test = self._claim_next(assignment)
            if slot is None or test is None:
                slot = self._slot_for(assignment, attempt)
                test = self._start(slot, assignment, folder_of(assignment))
            else:
                attempt.began = test.reader.started
            output = attempt.output = self._follow(slot, test, _NextTests(upcoming, folder_of))
            if output.unexpected is not None:
                attempt.failure = f"somebody but the agent has written to its streams, {output.unexpected}"
        except EngineError as error:
            attempt.failure = error.message
            attempt.stopped = isinstance(error, StoppedWaitingError)
        except OSError as error:  # the disk under the folder is full, or no more files can be opened
            attempt.failure = f"keeping what the test wrote: {error}"
        attempt.ended = time.monotonic()
        return attempt, test

    def _lost_before_start(self, attempt: AttemptState, test: InFlightTest | None) -> bool:
        """Return whether the container was ended, by the engine's end or others, before its test began."""
        slot, output = self._slot, attempt.output
        if slot is None or test is None or output is None or output.record is not None:
            return False
        begun = output.begin_counters or not test.first or not slot.session.has_agent
        if begun or output.timed_out or output.interrupted:
            return False
        availability = self._context.availability
        action = availability.external_action(slot.session.container_id, settle=True)
        return availability.went_away(None, slot.engine_generation) or action is not None

    def _claim_next(self, assignment: Assignment) -> tuple[OpenSlot | None, InFlightTest | None]:
        """Return the slot and the test of this assignment, if it was released before; else (None, None)."""
        slot, (test, self._next_test) = self._slot, (self._next_test, None)
        if test is None or test.assignment is assignment:
            return slot, test
        test.reader.close()  # `upcoming` broke its contract: another test runs in the slot
        self._discard()
        return None, None

    def _slot_for(self, assignment: Assignment, attempt: AttemptState) -> OpenSlot:
        """Return the lane's slot if it may take this test, else an idle one, else a new one."""
        slot = self._slot
        if slot is not None and slot.may_take(assignment):
            return slot
        self._put_idle()
        if self._idle_slots is not None and assignment.attempt == 1 and assignment.profile.reuse > 1:
            slot = self._slot = self._idle_slots.take(assignment.profile)
            if slot is not None:
                return slot
        slot = self._slot = self._open(assignment)
        attempt.create_seconds, attempt.start_seconds = slot.container.create_seconds, slot.container.start_seconds
        return slot

    def _put_idle(self) -> None:
        """Keep the slot for a later test of its profile, if it may take one; else remove it."""
        slot = self._slot
        unused = self._staged is None and self._next_test is None
        if slot is None or self._idle_slots is None or not unused or not slot.has_room:
            self._discard()
            return
        self._slot = None
        self._idle_slots.put(slot)

    def _open(self, assignment: Assignment) -> OpenSlot:
        """Return the standby slot if it is of this profile, else a new one."""
        found = self._take_standby()
        if found is not None and found.profile == assignment.profile and assignment.attempt == 1:
            return found
        if found is not None:
            self._retire(found)
        return self._take(assignment)

    def _take_standby(self) -> OpenSlot | None:
        standby, self._standby = self._standby, None
        return None if standby is None else standby.get()

    def _start(self, slot: OpenSlot, assignment: Assignment, folder: Path) -> InFlightTest:
        """Start the test in the slot, and begin to measure it."""
        session = slot.session
        keep = slot.init_process is not None and slot.position + 1 < slot.profile.reuse
        first = not slot.uses_snapshots
        if first and session.has_agent:
            self._begin_measuring(slot, assignment, keep=keep)
        if session.needs_preparation(assignment):
            self._set_memory_limit(slot, room_bytes=PREPARE_BYTES)
        # before the first of several tests, the agent runs a program that reads the modes of writable folders
        witnessed = not (keep and slot.position == 0) and self._begin_witness(slot, assignment)
        reader = session.start(assignment, folder=folder, keep=keep, first=first)
        if not session.has_agent:
            slot.meter.begin(session.container_id, assignment.key, running=True)
            slot.meter.begin_cpu_wait(assignment.profile.limits.cpus)
        test = self._in_flight(slot, assignment, reader, keep=keep, first=first)
        test.witnessed = witnessed
        return test

    @staticmethod
    def _begin_witness(slot: OpenSlot, assignment: Assignment) -> bool:
        """Start to observe the process events of the test that is released next; return False if impossible.

        A test that may be forked from a server is not observed, because its parent is not the agent.
        """
        if slot.exit_witness is None or preload.plan(assignment) is not None:
            return False
        slot.exit_witness.begin()
        return True

    @staticmethod
    def _begin_measuring(slot: OpenSlot, assignment: Assignment, *, keep: bool) -> None:
        """Start to measure the test now."""
        slot.meter.begin(slot.session.container_id, assignment.key)
        slot.meter.begin_cpu_wait(assignment.profile.limits.cpus)
        if keep and slot.meter.begin_snapshots():
            slot.uses_snapshots, slot.snapshot = True, slot.meter.snapshot()

    def _set_memory_limit(self, slot: OpenSlot, *, room_bytes: int) -> None:
        """Set the container's memory limit to its profile's plus the memory that cannot be reclaimed from it now.

        With `room_bytes`, instead raise it to at least that much above the latter. If the engine cannot set it,
        the limit stays, and the attestation says so.
        """
        unreclaimable = slot.meter.unreclaimable_bytes()
        if unreclaimable is None:
            return
        present = slot.limit_bytes or slot.profile.limits.memory_bytes
        if room_bytes:
            wanted = max(present, unreclaimable + room_bytes)
        else:
            wanted = slot.profile.limits.memory_bytes + -(-unreclaimable // LIMIT_STEP_BYTES) * LIMIT_STEP_BYTES
        if wanted <= present <= wanted + LIMIT_SLACK_BYTES:
            return
        with suppress(EngineError):
            self._context.availability.limit_memory(slot.session.container_id, wanted)
            slot.limit_bytes, slot.effective_limit_bytes = wanted, slot.meter.memory_limit_bytes()

    @staticmethod
    def _in_flight(
        slot: OpenSlot, assignment: Assignment, reader: OutputReader, *, keep: bool, first: bool
    ) -> InFlightTest:
        """Count a test that was released in the slot, and return its state."""
        slot.position += 1
        return InFlightTest(
            assignment=assignment,
            reader=reader,
            position=slot.position,
            first=first,
            keep=keep,
            before=slot.snapshot,
            agent_before=slot.agent_read,
        )

    # ------------------------------------------------------------ while it runs, and its end

    def _follow(self, slot: OpenSlot, test: InFlightTest, following: _NextTests) -> SlotOutput:
        """Handle the events of a test up to its end, and return its output."""
        meter = slot.meter
        events = slot.session.events(
            test.reader,
            test.assignment,
            stop=self._context.stop,
            waited_seconds=meter.waited_seconds,
            signal=meter.signal,
        )
        with closing(events):
            for event in events:
                match event:
                    case SlotEvent.PREPARED:
                        self._on_prepared(slot, test)
                    case SlotEvent.STARTED:
                        self._stage_next(slot, test, following)
                    case SlotEvent.LONG_RUNNING:
                        if not test.first:
                            meter.begin_sampling(test.assignment.key, test.reader.started)
                            meter.begin_cpu_wait(slot.profile.limits.cpus)
                    case SlotEvent.KILLING:
                        slot.frozen = meter.thaw() or slot.frozen
                        meter.read_before_kill()
                        self._take_snapshot(slot, test)
                    case SlotEvent.MEASURED:
                        self._on_measured(slot, test, following)
                    case output:
                        return output
        raise EngineError("the slot's events ended without its output")

    def _on_prepared(self, slot: OpenSlot, test: InFlightTest) -> None:
        """Start to measure a test that waits to be forked, once the process that it is forked from is set up."""
        if test.first:
            slot.meter.samples()
            self._begin_measuring(slot, test.assignment, keep=test.keep)
        elif slot.uses_snapshots:
            slot.snapshot = slot.meter.snapshot()
            slot.meter.begin_cpu_wait(slot.profile.limits.cpus)
        self._set_memory_limit(slot, room_bytes=0)
        slot.agent_read = agent_counters(test.reader.before)
        test.agent_before, test.before, test.overlapped = slot.agent_read, slot.snapshot, False
        slot.floor_bytes = slot.agent_read.memory_bytes

    def _stage_next(self, slot: OpenSlot, test: InFlightTest, following: _NextTests) -> None:
        """Write the order for the next test, and open a standby slot when few tests are left.

        After a short test, the next one is released at once. After a long one, it waits until the memory peak has
        been reset.
        """
        session = slot.session
        if not test.keep or not slot.uses_snapshots or self._staged is not None or self._next_test is not None:
            return
        assignment = following.upcoming()
        if assignment is None or not isinstance(session, AgentSession) or not slot.may_take(assignment):
            return
        keep = slot.position + 1 < slot.profile.reuse
        folder = following.folder_of(assignment)
        if session.needs_preparation(assignment):
            self._set_memory_limit(slot, room_bytes=PREPARE_BYTES)
        reader, line = session.stage(assignment, folder=folder, keep=keep, first=False)
        staged = self._staged = StagedTest(assignment, session, reader, line, keep)
        if test.after is None and not reader.prepares and self._is_small(test):
            staged.release()
        if slot.profile.reuse - slot.position == STANDBY_AT and self._standby is None:
            self._standby = StandbySlot(self._context.open_standby, assignment)

    def _on_measured(self, slot: OpenSlot, test: InFlightTest, following: _NextTests) -> None:
        """Examine the slot from outside, and release the next test unless there is a reason to retire the slot.

        The test's processes have ended and the agent has read its counters.
        """
        test.next_released = self._staged is not None and self._staged.released
        if test.witnessed and slot.exit_witness is not None:
            test.kernel_exit_code = slot.exit_witness.exit_code(test.reader.exit_code)
        self._take_snapshot(slot, test)
        slot.agent_read = test.agent_after = agent_counters(test.reader.counters)
        if not test.keep or test.reader.exit_code != 0:
            return
        test.retire_reason = retirement.reason_after(slot, test, self._started_after(test))
        if test.retire_reason is not None:
            return
        self._stage_next(slot, test, following)
        staged, self._staged = self._staged, None
        if staged is None:
            return
        witnessed = not staged.released and self._begin_witness(slot, staged.assignment)
        if not staged.released:
            staged.release()
        next_test = self._in_flight(slot, staged.assignment, staged.reader, keep=staged.keep, first=False)
        next_test.witnessed = witnessed
        next_test.overlapped = test.next_released
        self._next_test = next_test

    def _is_small(self, test: InFlightTest) -> bool:
        """Return whether a test will probably be short, with a peak too low to hide that of the test after it.

        The estimate is from its history, or else from the test before it in this lane.
        """
        known = test.assignment.history
        if test.reader.prepares:
            return False
        if known is None:
            seconds, memory_bytes = self._last_seconds, self._last_bytes
        else:
            seconds, memory_bytes = known.duration_seconds_p95, known.memory_bytes_p95
        return seconds <= EARLY_SECONDS and memory_bytes is not None and memory_bytes <= TOLERANCE_BYTES

    @staticmethod
    def _take_snapshot(slot: OpenSlot, test: InFlightTest) -> None:
        """Take the snapshot after the test, unless it was taken before."""
        if slot.uses_snapshots and test.after is None:
            test.after = slot.snapshot = slot.meter.snapshot()

    def _started_after(self, test: InFlightTest) -> Assignment | None:
        """Return the assignment of the next test if that may have started already."""
        if self._next_test is not None:
            return self._next_test.assignment
        return self._staged.assignment if test.next_released and self._staged is not None else None

    # ------------------------------------------------------------ after its end

    def _conclude(self, slot: OpenSlot, test: InFlightTest | None, attempt: AttemptState) -> None:
        """Compare the exit codes of agent and engine, set the attempt's figures, and keep or remove the slot."""
        output = attempt.output
        record = output.record if output is not None else None
        clean = record is not None and record.exit_code == 0 and not record.leftovers and not record.dirty
        if test is not None and output is not None and (output.timed_out or output.interrupted):
            test.retire_reason = test.retire_reason or SIGNALLED
        self._last_seconds = math.inf if output is None else output.test_seconds
        attempt.kept = bool(clean and test is not None and test.keep and attempt.failure is None and slot.alive)
        if attempt.kept and test is not None and test.retire_reason is None:
            test.retire_reason = retirement.changed_folders_reason(slot, self._started_after(test))
        if output is not None:
            self._ask_engine(slot, attempt)
            attempt.failure = attempt.failure or self._interference(slot, test, output, attempt)
            attempt.kept = attempt.kept and attempt.failure is None
        self._attest(slot, attempt)
        self._measure(slot, test, attempt)
        if attempt.kept and output is not None and test is not None and test.retire_reason is None:
            self._continue(slot, output)
        else:
            self._discard()
            attempt.leaked = slot.container.leaked

    def _ask_engine(self, slot: OpenSlot, attempt: AttemptState) -> None:
        """Set `attempt.engine_state`; wait for the container's end first, unless it is kept."""
        if attempt.kept:
            attempt.engine_state = RUNNING
            return
        try:
            slot.session.proceed()  # an agent that waits for orch may end
            inspection = self._context.availability.retry(slot.container.await_exit)
        except EngineError as error:
            attempt.failure = error.message
            return
        attempt.engine_state = inspection.state if inspection else EngineState(status="gone")
        slot.inspection = slot.inspection or inspection  # the first one has the limits that were requested

    def _attest(self, slot: OpenSlot, attempt: AttemptState) -> None:
        """Set `attempt.attestation`, the comparison of effective and requested settings, made once for a slot."""
        if slot.attestation is None and slot.inspection is not None:
            slot.attestation = attest(
                slot.inspection,
                asked=slot.container.spec,
                begin=attempt.output.begin_counters if attempt.output else "",
                info=self._context.info,
                host_view=slot.kernel_view,
            )
        attempt.attestation = with_memory_limit(
            slot.attestation, asked=slot.limit_bytes, seen=slot.effective_limit_bytes
        )

    def _interference(
        self, slot: OpenSlot, test: InFlightTest | None, output: SlotOutput, attempt: AttemptState
    ) -> str | None:
        """Return why the test's result is unknown although engine and agent have answered, None if it is known.

        Either the engine ended while the container existed, so that its later answer proves nothing, or another
        program acted on the container.
        """
        availability, kept = self._context.availability, attempt.kept
        odd = not kept and not _as_expected(slot, output, attempt.engine_state)
        action = availability.external_action(
            slot.session.container_id,
            ending=output.timed_out or output.interrupted,
            settle=odd and not output.interrupted,
        )
        untrusted = not kept and (odd or slot.engine_generation != availability.generation)
        may_be_engine = action in ENGINE_ACTIONS or (action is None and untrusted)
        if may_be_engine and not output.interrupted and availability.went_away(None, slot.engine_generation):
            if test is not None:
                test.retire_reason = test.retire_reason or ENGINE_ENDED
            return ENGINE_ENDED if untrusted else None
        if action is not None:
            return f"the container was {EXTERNAL_ACTIONS[action]}"
        return "the container was frozen externally (by its cgroup)" if slot.frozen else None

    def _measure(self, slot: OpenSlot, test: InFlightTest | None, attempt: AttemptState) -> None:
        """Set the attempt's figures: usage, samples, and the time in which it waited for CPUs."""
        output = attempt.output
        attempt.samples = slot.meter.samples()
        reused = False
        if test is not None and output is not None and test.before is not None and test.after is not None:
            window = SnapshotWindow(
                agent_before=agent_counters(output.begin_counters) if test.first else test.agent_before,
                agent_after=test.agent_after,
                before=test.before,
                after=test.after,
                overlapped=test.overlapped,
                seconds=(test.reader.ended or math.inf) - test.before.at,
                next_released=test.next_released,
                ended_others=_may_have_ended_others(output.record),
            )
            usage = window_usage(window, attempt.samples)
            reused = not test.first
        else:
            plain = None if slot.session.has_agent else NO_AGENT
            usage = slot.meter.usage(output, attempt.samples, reason=attempt.failure or plain)
        calibration = None
        # without a record, the costs of a null test do not apply
        if output is not None and output.record is not None:
            image_id = self._context.pinned_image(slot.container.spec.image_id)
            calibration = self._context.calibrations.of(image_id, reused=reused)
        attempt.usage = corrected(usage, calibration)
        cpu_wait = slot.meter.take_cpu_wait()
        if cpu_wait is not None and output is not None:
            attempt.waited_seconds = cpu_wait.total_seconds(
                seconds=output.test_seconds,
                cpu_seconds=usage.cpu_seconds,
                throttled_seconds=usage.throttled_seconds,
            )
            attempt.starved = output.timed_out and cpu_wait.starved(
                seconds=output.test_seconds, limit_seconds=slot.profile.limits.timeout_seconds
            )
        self._last_bytes = attempt.usage.memory_peak_bytes

    def _continue(self, slot: OpenSlot, output: SlotOutput) -> None:
        """Prepare the kept slot for its next test, which may run already."""
        test = self._next_test
        if output.clean_counters:  # the cost and the effect of the cleaning do not belong to the next test
            slot.agent_read = agent_counters(output.clean_counters)
            if slot.uses_snapshots:
                slot.snapshot = slot.meter.snapshot()
            if test is not None:
                test.agent_before, test.before = slot.agent_read, slot.snapshot
                test.overlapped = False
            if test is not None and test.witnessed and slot.exit_witness is not None:
                slot.exit_witness.begin()  # the agent ran programs to clean
            slot.session.proceed()
        if test is not None:
            test.reader.restart()

    def _discard(self) -> None:
        """Remove the slot. A test that was staged or released in it is started again in another one."""
        if self._staged is not None:
            self._staged.reader.close()
            self._staged = None
        if self._next_test is not None:
            self._next_test.reader.close()
            self._next_test = None
        slot, self._slot = self._slot, None
        if slot is not None:
            self._retire(slot)


def _as_expected(slot: OpenSlot, output: SlotOutput, state: EngineState | None) -> bool:
    """Return whether agent and engine report the same exit code; without an agent, whether it is below 128."""
    if state is None or state.exit_code is None:
        return False
    if not slot.session.has_agent:
        return state.exit_code < 128
    return output.record is not None and state.exit_code == output.record.exit_code


def _may_have_ended_others(record: AgentRecord | None) -> bool:
    """Return whether the process that the test was forked from may have ended with it.

    The agent ends all processes if a test leaves some, and a test can end its parent.
    """
    return record is None or bool(record.leftovers or record.dirty) or record.exit_code == 128 + signal.SIGKILL
