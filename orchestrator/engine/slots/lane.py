"""Runs tests one after another and returns what was seen of each: the evidence, judged elsewhere.

In a container each, or several in one where the profile says `reuse`: then the agent is sent the order for the
next test while one runs, and begins it once it has verified that the one before it left nothing. It does not wait
for us: what we see from outside comes a moment later, and if it is a reason not to use the container again, the
test that has begun is run anew in another one. Trouble with the engine is evidence too (`engine_failure`), never
an exception: nothing is known then about the test. docs/design/reused-slots.md has the measurements.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.engine.docker.availability import ENGINE_ACTIONS, EXTERNAL_ACTIONS
from orchestrator.engine.isolation.attestation import attest, with_memory_limit
from orchestrator.engine.slots import preload
from orchestrator.engine.slots.slot import Watch
from orchestrator.errors import EngineError, StoppedWaitingError
from orchestrator.measure.calibration import corrected
from orchestrator.measure.own_memory import TOLERANCE_BYTES
from orchestrator.measure.reused_slot import NOT_READ, SnapshotWindow, agent_counters, window_usage
from orchestrator.measure.usage import not_measured
from orchestrator.model.evidence import EngineState, Evidence, Launch, OutputLog, SlotUse, Timings
from orchestrator.model.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from orchestrator.engine.agent.output_reader import OutputReader, SlotOutput
    from orchestrator.engine.docker.availability import EngineAvailability
    from orchestrator.engine.slots.idle_slots import IdleSlotPool
    from orchestrator.engine.slots.open_slot import OpenSlot
    from orchestrator.measure.calibration import Calibration
    from orchestrator.measure.counters import Counters
    from orchestrator.measure.reused_slot import CounterSnapshot
    from orchestrator.model.evidence import AgentRecord, Attestation
    from orchestrator.model.runs import EngineInfo
    from orchestrator.model.tests import Assignment
    from orchestrator.model.usage import Sample
    from orchestrator.stop_flag import StopFlag

NO_AGENT = "the image has no shell for the agent, which reads this figure"
NO_OUTPUT = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")
RUNNING = EngineState(status="running")
STANDBY_AT = 20
"""Tests that a container can still take when the next one is opened: 100 ms or more, as opening takes."""
EARLY_SECONDS = 0.05
"""The agent is sent the order for the next test while one runs that is as short as this, and needs next to no
memory: the 1 ms that it would wait for us matters then.
"""
ENGINE_ENDED = "the engine ended while the test ran"
MAX_STARTS = 3
"""So often a test is let in anew whose container was lost before it began."""
PREPARE_BYTES = 64 << 20
"""Of memory, for a pytest with its plugins and conftest files to be set up in: most need 20 to 40 MiB."""
LIMIT_STEP_BYTES = 1 << 20
LIMIT_SLACK_BYTES = 4 << 20
"""A limit that is no more above what it should be stays: setting one takes the engine 50 ms."""
NOT_AGAIN = "its container is not used again"
SIGNALLED = f"{NOT_AGAIN}: a signal that was meant for it may have met the next test"
HIDING_SHARE = 1 / 8
"""Of the memory limit: a test that needed more than this ends its container where its peak cannot be set back, so
that the bound of those after it is never near a limit.
"""
FLOOR_SHARE = 0.25
"""Of the memory limit: a container in which so much more is charged than at first is not used again, because what
earlier tests left in the page cache would count as the next one's need.
"""


@dataclass(slots=True)
class InFlightTest:
    """A test that has been released and not been read to its end."""

    assignment: Assignment
    reading: OutputReader
    position: int
    first: bool
    """The agent has read all counters before it."""
    keep: bool
    before: CounterSnapshot | None = None
    """Before it; None: this container is not measured by looks."""
    overlapped: bool = False
    """It may have begun before that look."""
    next_released: bool = False
    """The agent began the next one by itself."""
    after: CounterSnapshot | None = None
    retire_reason: str | None = None
    """Why its container is not used again, although the agent waits for another test."""
    agent_before: Counters = NOT_READ
    """What the agent read before it, where that was after another test."""
    witnessed: bool = False
    """The first process that the agent forks from its release on is its own."""
    kernel_exit_code: int | None = None
    agent_after: Counters = NOT_READ


@dataclass(slots=True)
class AttemptState:
    """What is known of one attempt while it is run."""

    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    run: SlotOutput | None = None
    state: EngineState | None = None
    failure: str | None = None
    stopped: bool = False
    """The run was ended while it waited for the engine."""
    attestation: Attestation | None = None
    usage: Usage = field(default_factory=Usage)
    samples: tuple[Sample, ...] = ()
    waited_seconds: float | None = None
    starved: bool = False
    kept: bool = False
    create_seconds: float = 0.0
    start_seconds: float = 0.0
    leaked: tuple[str, ...] = ()


@dataclass(slots=True)
class StagedTest:
    """A test whose order lies ready."""

    assignment: Assignment
    reading: OutputReader
    line: bytes
    """What lets it in."""
    keep: bool
    released: bool = False
    """The agent has that line, and begins it by itself when the one before it has ended and left nothing."""


@dataclass(frozen=True, slots=True)
class _Following:
    """Where a lane learns of its next test."""

    upcoming: Callable[[], Assignment | None]
    folder_of: Callable[[Assignment], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneContext:
    """What all lanes of an executor share: how containers are opened, and what corrects their figures."""

    info: EngineInfo
    availability: EngineAvailability
    stop: StopFlag
    open_standby: Callable[[Assignment], OpenSlot]
    """Open a container for any test like this one."""
    pinned_image: Callable[[str], str]
    """See `PinnedImages.pinned`."""
    calibration: Callable[..., Mapping[str, Calibration]]
    """What a test that does nothing costs, by image ID; `reused`: as the second or later one of a container."""


class StandbySlot:
    """A container that is opened while the one before it takes its last tests."""

    def __init__(self, open_standby: Callable[[Assignment], OpenSlot], assignment: Assignment) -> None:
        """Begin, in a thread of its own. `assignment`: any that it could take."""
        self._found: OpenSlot | None = None
        self._thread = threading.Thread(
            target=self._open, args=(open_standby, assignment), name="orch-standby", daemon=True
        )
        self._thread.start()

    def _open(self, open_standby: Callable[[Assignment], OpenSlot], assignment: Assignment) -> None:
        # one that cannot be had is opened when it is needed, and says what is wrong
        with suppress(EngineError, OSError):
            self._found = open_standby(assignment)

    def get(self) -> OpenSlot | None:
        """The container once it is open; None: it could not be had."""
        self._thread.join()
        return self._found


class SlotLane:
    """Runs tests one after another; used by one thread. Close it."""

    def __init__(
        self,
        context: LaneContext,
        *,
        take: Callable[[Assignment], OpenSlot],
        retire: Callable[[OpenSlot], None],
        idle_slots: IdleSlotPool[OpenSlot] | None = None,
    ) -> None:
        """`take` opens a container for a test, `retire` removes one. `idle_slots`: keeps those that the lane does
        not need at present.
        """
        self._context = context
        self._take = take
        self._retire = retire
        self._idle_slots = idle_slots
        self._slot: OpenSlot | None = None
        self._next_test: InFlightTest | None = None
        """The next test, begun before its `run` was called."""
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
        """One attempt. `waits_since`: monotonic time from which it could have run. `folder_of` makes the folder
        that receives an attempt's stdout, stderr and outputs/. `upcoming` names what is certain to be the next
        `run`, if that is known; it is let in when this one ends.
        """
        for _ in range(MAX_STARTS):
            attempt, test = self._run_to_end(assignment, folder_of, upcoming)
            if not self._lost_before_start(attempt, test):
                break
            self._discard()  # nothing was tried
        slot = self._slot
        if slot is not None:
            self._conclude(slot, test, attempt)
        else:
            attempt.usage = not_measured(attempt.failure or "there was no container")
        return self._evidence(attempt, slot, test, attempt.began - waits_since)

    def _run_to_end(
        self,
        assignment: Assignment,
        folder_of: Callable[[Assignment], Path],
        upcoming: Callable[[], Assignment | None],
    ) -> tuple[AttemptState, InFlightTest | None]:
        """What came of it up to the end of the test or of its container."""
        attempt = AttemptState()
        test: InFlightTest | None = None
        try:
            test = self._claim_next(assignment)
            if test is None:
                test = self._start(assignment, folder_of(assignment), self._slot_for(assignment, attempt))
            else:
                attempt.began = test.reading.started
            attempt.run = self._read(test, _Following(upcoming, folder_of))
            if attempt.run.unexpected is not None:
                attempt.failure = f"somebody but the agent has written to its streams, {attempt.run.unexpected}"
        except EngineError as error:
            attempt.failure = error.message
            attempt.stopped = isinstance(error, StoppedWaitingError)
        except OSError as error:  # the disk under the folder is full, or we may open no more files
            attempt.failure = f"keeping what the test wrote: {error}"
        attempt.ended = time.monotonic()
        return attempt, test

    def _lost_before_start(self, attempt: AttemptState, test: InFlightTest | None) -> bool:
        """Its container went with the engine, or by somebody else's doing, before the agent began the test."""
        slot, run = self._slot, attempt.run
        if slot is None or test is None or run is None or run.record is not None:
            return False
        begun = run.begin_counters or not test.first or not slot.container.has_agent
        if begun or run.timed_out or run.interrupted:
            return False
        availability = self._context.availability
        disturbance = availability.external_action(slot.container.container_id or "", settle=True)
        return availability.went_away(None, slot.engine_generation) or disturbance is not None

    def close(self) -> None:
        """Remove the container that is open, and the one that was to follow it."""
        self._discard()
        standby = self._take_standby()
        if standby is not None:
            self._retire(standby)

    # ------------------------------------------------------------ a test's beginning

    def _claim_next(self, assignment: Assignment) -> InFlightTest | None:
        """The test of this assignment, if it was let in already."""
        test, self._next_test = self._next_test, None
        if test is None or test.assignment is assignment:
            return test
        test.reading.close()  # against the contract of `upcoming`: what is in the container is no longer known
        self._discard()
        return None

    def _slot_for(self, assignment: Assignment, attempt: AttemptState) -> OpenSlot:
        """The open container if it may take this test, else one that waits for such a test, else a new one."""
        slot = self._slot
        if slot is not None and self._may_take(slot, assignment):
            return slot
        self._set_idle()
        if self._idle_slots is not None and assignment.attempt == 1 and assignment.profile.reuse > 1:
            slot = self._slot = self._idle_slots.take(assignment.profile)
            if slot is not None:
                return slot
        slot = self._slot = self._open(assignment)
        attempt.create_seconds, attempt.start_seconds = slot.container.create_seconds, slot.container.start_seconds
        return slot

    def _set_idle(self) -> None:
        """Keep the open container for a later test of its profile, if it may take one; else remove it."""
        slot = self._slot
        untouched = self._staged is None and self._next_test is None
        if slot is None or self._idle_slots is None or not untouched or not self._has_room(slot):
            self._discard()
            return
        self._slot = None
        self._idle_slots.put(slot)

    def _open(self, assignment: Assignment) -> OpenSlot:
        """The standby container if it is of this profile, else a new one."""
        found = self._take_standby()
        if found is not None and found.profile == assignment.profile and assignment.attempt == 1:
            return found
        if found is not None:
            self._retire(found)
        return self._take(assignment)

    def _take_standby(self) -> OpenSlot | None:
        standby, self._standby = self._standby, None
        return None if standby is None else standby.get()

    @staticmethod
    def _has_room(slot: OpenSlot) -> bool:
        return slot.init_process is not None and slot.position < slot.profile.reuse

    @classmethod
    def _may_take(cls, slot: OpenSlot, assignment: Assignment) -> bool:
        same = slot.profile is assignment.profile or slot.profile == assignment.profile
        return same and cls._has_room(slot) and slot.alive and assignment.attempt == 1

    def _start(self, assignment: Assignment, folder: Path, slot: OpenSlot) -> InFlightTest:
        keep = slot.init_process is not None and slot.position + 1 < slot.profile.reuse
        first = not slot.uses_snapshots
        if first and slot.container.has_agent:
            self._begin(slot, assignment, keep=keep)
        if slot.container.prepares(assignment):
            self._set_memory_limit(slot, room_bytes=PREPARE_BYTES)
        # before the first of several the agent has the modes of writable places read, by a program
        witnessed = not (keep and slot.position == 0) and self._begin_witness(slot, assignment)
        reading = slot.container.start(assignment, folder=folder, keep=keep, first=first)
        if not slot.container.has_agent:
            slot.meter.begin(slot.container.container_id or "", assignment.key, running=True)
            slot.meter.begin_cpu_wait(assignment.profile.limits.cpus)
        test = self._in_flight(slot, assignment, reading, keep=keep, first=first)
        test.witnessed = witnessed
        return test

    @staticmethod
    def _begin_witness(slot: OpenSlot, assignment: Assignment) -> bool:
        """Have the kernel's word on the test that is let in now. Not on one that may be forked from a server: its
        parent is another process.
        """
        if slot.exit_witness is None or preload.plan(assignment) is not None:
            return False
        slot.exit_witness.begin()
        return True

    @staticmethod
    def _begin(slot: OpenSlot, assignment: Assignment, *, keep: bool) -> None:
        """Measure from here on."""
        slot.meter.begin(slot.container.container_id or "", assignment.key)
        slot.meter.begin_cpu_wait(assignment.profile.limits.cpus)
        if keep and slot.meter.begin_snapshots():
            slot.uses_snapshots, slot.snapshot = True, slot.meter.snapshot()

    def _prepared(self, slot: OpenSlot, test: InFlightTest) -> None:
        """What the test is forked from stands, and the test waits: its figures begin here."""
        if test.first:
            slot.meter.samples()
            self._begin(slot, test.assignment, keep=test.keep)
        elif slot.uses_snapshots:
            slot.snapshot = slot.meter.snapshot()
            slot.meter.begin_cpu_wait(slot.profile.limits.cpus)
        self._set_memory_limit(slot, room_bytes=0)
        slot.agent_read = agent_counters(test.reading.before)
        test.agent_before, test.before, test.overlapped = slot.agent_read, slot.snapshot, False
        slot.floor_bytes = slot.agent_read.memory_bytes

    def _set_memory_limit(self, slot: OpenSlot, *, room_bytes: int) -> None:
        """Hold the container to its profile's memory beyond what stands in it; with `room_bytes` at least to so
        much beyond that. An engine that cannot leaves the limit as it is, and the attestation says so.
        """
        stands = slot.meter.unreclaimable_bytes()
        if stands is None:
            return
        present = slot.limit_bytes or slot.profile.limits.memory_bytes
        if room_bytes:
            wanted = max(present, stands + room_bytes)
        else:
            wanted = slot.profile.limits.memory_bytes + -(-stands // LIMIT_STEP_BYTES) * LIMIT_STEP_BYTES
        if wanted <= present <= wanted + LIMIT_SLACK_BYTES:
            return
        with suppress(EngineError):
            self._context.availability.limit_memory(slot.container.container_id or "", wanted)
            slot.limit_bytes, slot.effective_limit_bytes = wanted, slot.meter.memory_limit_bytes()

    @staticmethod
    def _in_flight(
        slot: OpenSlot, assignment: Assignment, reading: OutputReader, *, keep: bool, first: bool
    ) -> InFlightTest:
        slot.position += 1
        return InFlightTest(
            assignment=assignment,
            reading=reading,
            position=slot.position,
            first=first,
            keep=keep,
            before=slot.snapshot,
            agent_before=slot.agent_read,
        )

    # ------------------------------------------------------------ while it runs, and its end

    def _read(self, test: InFlightTest, following: _Following) -> SlotOutput:
        slot = self._slot
        assert slot is not None  # noqa: S101 - what is in flight is in the open container
        lasting = None
        if not test.first:
            key, started = test.assignment.key, test.reading.started

            def lasting() -> None:
                slot.meter.begin_sampling(key, started)
                slot.meter.begin_cpu_wait(slot.profile.limits.cpus)

        def before_kill() -> None:
            slot.frozen = slot.meter.thaw() or slot.frozen
            slot.meter.read_before_kill()
            self._snapshot(slot, test)

        watch = Watch(
            prepared=lambda: self._prepared(slot, test),
            begun=lambda: self._stage_next(slot, test, following),
            measured=lambda: self._on_measured(slot, test, following),
            lasting=lasting,
            before_kill=before_kill,
            waited=slot.meter.waited_seconds,
            signal=slot.meter.signal,
        )
        return slot.container.read(test.reading, test.assignment, stop=self._context.stop, watch=watch)

    def _stage_next(self, slot: OpenSlot, test: InFlightTest, following: _Following) -> None:
        """Lay the order for the next test ready, tell the agent of it behind a short one, and open a container for
        those after it. Behind a long one it can wait until that one's peak has been set back.
        """
        if not test.keep or not slot.uses_snapshots or self._staged is not None or self._next_test is not None:
            return
        assignment = following.upcoming()
        if assignment is None or not self._may_take(slot, assignment):
            return
        keep = slot.position + 1 < slot.profile.reuse
        folder = following.folder_of(assignment)
        if slot.container.prepares(assignment):
            self._set_memory_limit(slot, room_bytes=PREPARE_BYTES)
        reading, line = slot.container.stage(assignment, folder=folder, keep=keep, first=False)
        staged = self._staged = StagedTest(assignment, reading, line, keep)
        if test.after is None and not reading.prepares and self._is_small(test):
            staged.released = True
            slot.container.release(line)
        if slot.profile.reuse - slot.position == STANDBY_AT and self._standby is None:
            self._standby = StandbySlot(self._context.open_standby, assignment)

    def _on_measured(self, slot: OpenSlot, test: InFlightTest, following: _Following) -> None:
        """The test's processes are gone and the agent has read its counters: look from outside too."""
        test.next_released = self._staged is not None and self._staged.released
        if test.witnessed and slot.exit_witness is not None:
            test.kernel_exit_code = slot.exit_witness.exit_code(test.reading.exit_code)
        self._snapshot(slot, test)
        slot.agent_read = test.agent_after = agent_counters(test.reading.counters)
        if not test.keep or test.reading.exit_code != 0:
            return
        test.retire_reason = self._retire_reason(slot, test)
        if test.retire_reason is not None:
            return
        self._stage_next(slot, test, following)
        staged, self._staged = self._staged, None
        if staged is None:
            return
        witnessed = not staged.released and self._begin_witness(slot, staged.assignment)
        if not staged.released:
            slot.container.release(staged.line)
        following_one = self._in_flight(slot, staged.assignment, staged.reading, keep=staged.keep, first=False)
        following_one.witnessed = witnessed
        following_one.overlapped = test.next_released
        self._next_test = following_one

    def _is_small(self, test: InFlightTest) -> bool:
        """Whether it will be short, and its peak too low to hide that of the test after it: by its history, else
        as the one before it in this lane was.
        """
        known = test.assignment.history
        if test.reading.prepares:
            return False
        if known is None:
            seconds, memory_bytes = self._last_seconds, self._last_bytes
        else:
            seconds, memory_bytes = known.duration_seconds_p95, known.memory_bytes_p95
        return seconds <= EARLY_SECONDS and memory_bytes is not None and memory_bytes <= TOLERANCE_BYTES

    @staticmethod
    def _snapshot(slot: OpenSlot, test: InFlightTest) -> None:
        if slot.uses_snapshots and test.after is None:
            test.after = slot.snapshot = slot.meter.snapshot()

    def _retire_reason(self, slot: OpenSlot, test: InFlightTest) -> str | None:
        """Why the container may not be used again, as far as can be seen from outside."""
        changed = None if slot.init_process is None else slot.init_process.changed(test.reading.serving)
        if changed is None and slot.container.resized:
            changed = "the size of its streams' buffers"
        if changed is not None:
            return f"{NOT_AGAIN}: the test changed {changed}{self._unless_next(test)}"
        charged = test.agent_after.memory_bytes
        if charged is None:
            return None
        if not slot.uses_snapshots and SlotLane._hides_others(slot, test):
            return "its container is not used again: its peak of memory cannot be set back, and is high"
        if slot.floor_bytes is None:
            slot.floor_bytes = charged
        if charged - slot.floor_bytes <= FLOOR_SHARE * slot.profile.limits.memory_bytes:
            return None
        return f"{NOT_AGAIN}: {charged} bytes stay charged to it between tests"

    def _unless_next(self, test: InFlightTest) -> str:
        """Who else it may have been: we look when the next test may run already."""
        following = self._next_test.assignment if self._next_test is not None else None
        if following is None and test.next_released and self._staged is not None:
            following = self._staged.assignment
        return "" if following is None else f" (unless {following.test.id} did, which had begun)"

    def _retire_reason_of_folders(self, slot: OpenSlot, test: InFlightTest) -> str | None:
        """The same of the writable places, once the agent has set back what it found."""
        changed = () if slot.init_process is None else slot.init_process.changed_folders()
        if not changed:
            return None
        places = ", ".join(changed)
        return f"{NOT_AGAIN}: the test changed the mode or attributes of {places}{self._unless_next(test)}"

    @staticmethod
    def _hides_others(slot: OpenSlot, test: InFlightTest) -> bool:
        """Whether a test has raised a peak that stays so far that it would be the bound of those after it."""
        before, after = agent_counters(test.reading.before), test.agent_after
        peak, now = after.memory_peak_bytes, after.memory_bytes
        if before.memory_peak_bytes is None or peak is None or now is None or peak <= before.memory_peak_bytes:
            return False
        if before.memory_bytes is not None:
            now = min(now, before.memory_bytes)  # its files are removed before the next one
        return peak - now > HIDING_SHARE * slot.profile.limits.memory_bytes

    def _conclude(self, slot: OpenSlot, test: InFlightTest | None, attempt: AttemptState) -> None:
        """Measure, hear the second witness, keep the container or remove it."""
        run = attempt.run
        record = run.record if run is not None else None
        clean = record is not None and record.exit_code == 0 and not record.leftovers and not record.dirty
        if test is not None and run is not None and (run.timed_out or run.interrupted):
            test.retire_reason = test.retire_reason or SIGNALLED
        self._last_seconds = math.inf if run is None else run.test_seconds
        attempt.kept = bool(clean and test is not None and test.keep and attempt.failure is None)
        attempt.kept = attempt.kept and slot.init_process is not None and slot.init_process.alive
        if attempt.kept and test is not None and test.retire_reason is None:
            test.retire_reason = self._retire_reason_of_folders(slot, test)
        try:
            if run is not None and not attempt.kept:
                slot.container.dismiss()
                inspection = self._context.availability.retry(slot.container.finish)
                attempt.state = inspection.state if inspection else EngineState(status="gone")
                slot.inspection = slot.inspection or inspection  # the first, with the limits that were asked for
            elif attempt.kept:
                attempt.state = RUNNING
        except EngineError as error:
            attempt.failure = error.message
        if run is not None:
            attempt.failure = attempt.failure or self._interference(slot, test, run, attempt)
            attempt.kept = attempt.kept and attempt.failure is None
        if slot.attestation is None and slot.inspection is not None:
            slot.attestation = attest(
                slot.inspection,
                asked=slot.container.spec,
                begin=run.begin_counters if run else "",
                info=self._context.info,
                host_view=slot.kernel_view,
            )
        attempt.attestation = with_memory_limit(
            slot.attestation, asked=slot.limit_bytes, seen=slot.effective_limit_bytes
        )
        self._measure(slot, test, attempt)
        if attempt.kept and run is not None and test is not None and test.retire_reason is None:
            self._continue(slot, run)
        else:
            self._discard()
            attempt.leaked = slot.container.leaked

    def _interference(
        self, slot: OpenSlot, test: InFlightTest | None, run: SlotOutput, attempt: AttemptState
    ) -> str | None:
        """Why nothing is known of the test although engine and agent have answered: the engine was ended while its
        container was there, and what it says of that now is no witness; or somebody else laid hands on it.
        """
        availability, kept = self._context.availability, attempt.kept
        odd = not kept and not _as_expected(slot, run, attempt.state)
        kind = availability.external_action(
            slot.container.container_id or "",
            ending=run.timed_out or run.interrupted,
            settle=odd and not run.interrupted,
        )
        untrusted = not kept and (odd or slot.engine_generation != availability.generation)
        may_be_engine = kind in ENGINE_ACTIONS or (kind is None and untrusted)
        if may_be_engine and not run.interrupted and availability.went_away(None, slot.engine_generation):
            if test is not None:
                test.retire_reason = test.retire_reason or ENGINE_ENDED
            return ENGINE_ENDED if untrusted else None
        if kind is not None:
            return f"the container was {EXTERNAL_ACTIONS[kind]}"
        return "the container was frozen externally (by its cgroup)" if slot.frozen else None

    def _measure(self, slot: OpenSlot, test: InFlightTest | None, attempt: AttemptState) -> None:
        run = attempt.run
        attempt.samples = slot.meter.samples()
        context = self._context
        image_id = context.pinned_image(slot.container.spec.image_id)
        if test is not None and run is not None and test.before is not None and test.after is not None:
            window = SnapshotWindow(
                agent_before=agent_counters(run.begin_counters) if test.first else test.agent_before,
                agent_after=test.agent_after,
                before=test.before,
                after=test.after,
                overlapped=test.overlapped,
                seconds=(test.reading.ended or math.inf) - test.before.at,
                next_released=test.next_released,
                ended_others=_may_have_ended_others(run.record),
            )
            usage = window_usage(window, attempt.samples)
            known = context.calibration(reused=not test.first)
        else:
            plain = None if slot.container.has_agent else NO_AGENT
            usage = slot.meter.usage(run, attempt.samples, reason=attempt.failure or plain)
            known = context.calibration(reused=False)
        # a test whose agent did not come to its end did not cost what a null test's did
        calibration = known.get(image_id) if run is not None and run.record is not None else None
        attempt.usage = corrected(usage, calibration)
        cpu_wait = slot.meter.take_cpu_wait()
        if cpu_wait is not None and run is not None:
            attempt.waited_seconds = cpu_wait.total_seconds(
                seconds=run.test_seconds, cpu_seconds=usage.cpu_seconds, throttled_seconds=usage.throttled_seconds
            )
            attempt.starved = run.timed_out and cpu_wait.starved(
                seconds=run.test_seconds, limit_seconds=slot.profile.limits.timeout_seconds
            )
        self._last_bytes = attempt.usage.memory_peak_bytes

    def _continue(self, slot: OpenSlot, run: SlotOutput) -> None:
        """The container waits for its next test, or has it already."""
        test = self._next_test
        if run.clean_counters:  # what went into the cleaning, and what was cleaned away, is not the next one's
            slot.agent_read = agent_counters(run.clean_counters)
            if slot.uses_snapshots:
                slot.snapshot = slot.meter.snapshot()
            if test is not None:
                test.agent_before, test.before = slot.agent_read, slot.snapshot
                test.overlapped = False
            if test is not None and test.witnessed and slot.exit_witness is not None:
                slot.exit_witness.begin()  # the cleaning took programs
            slot.container.go()
        if test is not None:
            test.reading.restart()

    def _discard(self) -> None:
        """Remove the open container, and forget what was begun in it or was to be: it is run again."""
        if self._staged is not None:
            self._staged.reading.close()
            self._staged = None
        if self._next_test is not None:
            self._next_test.reading.close()
            self._next_test = None
        slot, self._slot = self._slot, None
        if slot is not None:
            self._retire(slot)

    # ------------------------------------------------------------ what was seen

    def _evidence(
        self, attempt: AttemptState, slot: OpenSlot | None, test: InFlightTest | None, queue_seconds: float
    ) -> Evidence:
        run = attempt.run
        return Evidence(
            agent=run.record if run else None,
            agent_expected=slot is None or slot.container.has_agent,
            engine=attempt.state,
            timed_out=run is not None and run.timed_out,
            interrupted=attempt.stopped or (run is not None and run.interrupted),
            engine_failure=attempt.failure,
            usage=attempt.usage,
            samples=attempt.samples,
            stdout=run.stdout if run else NO_OUTPUT,
            stderr=run.stderr if run else NO_OUTPUT,
            outputs=run.outputs if run else (),
            outputs_notes=run.outputs_notes if run else (),
            leaked_objects=attempt.leaked,
            timings=Timings(
                queue_seconds=max(0.0, queue_seconds),
                create_seconds=attempt.create_seconds,
                start_seconds=attempt.start_seconds + (run.prepare_seconds if run else 0.0),
                test_seconds=run.test_seconds if run else 0.0,
                teardown_seconds=time.monotonic() - attempt.ended,
            ),
            started_at=run.started_at if run else datetime.now(UTC),
            attestation=attempt.attestation,
            slot=_slot_use(test, run),
            kept=attempt.kept,
            kernel_exit_code=test.kernel_exit_code if test is not None else None,
            cpu_waited_seconds=attempt.waited_seconds,
            starved=attempt.starved,
        )


def _as_expected(slot: OpenSlot, run: SlotOutput, state: EngineState | None) -> bool:
    """Both witnesses name the same exit code; the only one, where there is no agent, one that is no signal's."""
    if state is None or state.exit_code is None:
        return False
    if not slot.container.has_agent:
        return state.exit_code < 128
    return run.record is not None and state.exit_code == run.record.exit_code


def _may_have_ended_others(record: AgentRecord | None) -> bool:
    """The agent ends all there is with what a test leaves; and a test can end what it was forked from."""
    return record is None or bool(record.leftovers or record.dirty) or record.exit_code == 128 + signal.SIGKILL


def _slot_use(test: InFlightTest | None, run: SlotOutput | None) -> SlotUse:
    if test is None:
        return SlotUse()
    launch, refusal = run.launch if run else (Launch.PROCESS, None)
    notes = [refusal, test.retire_reason]
    record = None if run is None else run.record
    if record is not None and record.dirty:
        notes.append(f"{NOT_AGAIN}: what could not be set back: {', '.join(record.dirty)}")
    elif record is not None and record.modes:
        notes.append(f"the test changed the mode of {' and '.join(record.modes)}, which was set back")
    return SlotUse(position=test.position, launch=launch, note="; ".join(filter(None, notes)) or None)
