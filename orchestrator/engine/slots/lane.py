"""Runs tests one after another and returns what was seen of each: the evidence, judged elsewhere.

In a container each, or several in one where the profile says `reuse`: then the agent is told of the next test
while one runs, and begins it once it has verified that the one before it left nothing. It does not wait for us:
what we see from outside comes a moment later, and if it is a reason not to use the container again, the test that
has begun is run anew in another one. Trouble with the engine is evidence too (`engine_failure`), never an
exception: nothing is known then about the test.
docs/design/reused-slots.md has the measurements.
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
from orchestrator.measure.reused_slot import NOT_READ, Turn, agent_counters, turn_usage
from orchestrator.measure.usage import not_measured
from orchestrator.model.evidence import EngineState, Evidence, Launch, OutputLog, SlotUse, Timings
from orchestrator.model.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from orchestrator.engine.agent.output_reader import OutputReader, SlotOutput
    from orchestrator.engine.docker.availability import EngineAvailability
    from orchestrator.engine.slots.idle_slots import Shelf
    from orchestrator.engine.slots.open_slot import Held
    from orchestrator.measure.calibration import Calibration
    from orchestrator.measure.counters import Counters
    from orchestrator.measure.reused_slot import Look
    from orchestrator.model.evidence import AgentRecord, Attestation
    from orchestrator.model.runs import EngineInfo
    from orchestrator.model.tests import Assignment
    from orchestrator.model.usage import Sample
    from orchestrator.stop_flag import StopFlag

NO_AGENT = "the image has no shell for the agent, which reads this figure"
NO_OUTPUT = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")
RUNNING = EngineState(status="running")
SPARE_AT = 20
"""Tests that a container can still take when the next one is opened: 100 ms or more, as opening takes."""
EARLY_SECONDS = 0.05
"""The agent is told of the next test while one runs that is as short as this, and needs next to no memory: the
1 ms that it would wait for us matters then.
"""
ENGINE_ENDED = "the engine ended while the test ran"
BEGINNINGS = 3
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
class Flight:
    """A test that has been released and not been read to its end."""

    assignment: Assignment
    reading: OutputReader
    position: int
    first: bool
    """The agent has read all counters before it."""
    keep: bool
    look: Look | None = None
    """Before it; None: this container is not measured by looks."""
    overlapped: bool = False
    """It may have begun before that look."""
    followed: bool = False
    """The agent began the next one by itself."""
    after: Look | None = None
    doubt: str | None = None
    """Why its container is not used again, although the agent waits for another test."""
    agent_before: Counters = NOT_READ
    """What the agent read before it, where that was after another test."""
    witnessed: bool = False
    """The first process that the agent forks from its release on is its own."""
    kernel_exit_code: int | None = None
    agent_after: Counters = NOT_READ


@dataclass(slots=True)
class Seen:
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
class Announced:
    """A test whose order lies ready."""

    assignment: Assignment
    reading: OutputReader
    line: bytes
    """What lets it in."""
    keep: bool
    told: bool = False
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
    open_spare: Callable[[Assignment], Held]
    """Open a container for any test like this one."""
    pinned_image: Callable[[str], str]
    """See `PinnedImages.pinned`."""
    calibration: Callable[..., Mapping[str, Calibration]]
    """What a test that does nothing costs, by image ID; `reused`: as the second or later one of a container."""


class Spare:
    """A container that is opened while the one before it takes its last tests."""

    def __init__(self, open_spare: Callable[[Assignment], Held], assignment: Assignment) -> None:
        """Begin, in a thread of its own. `assignment`: any that it could take."""
        self._found: Held | None = None
        self._thread = threading.Thread(
            target=self._open, args=(open_spare, assignment), name="orch-spare", daemon=True
        )
        self._thread.start()

    def _open(self, open_spare: Callable[[Assignment], Held], assignment: Assignment) -> None:
        # one that cannot be had is opened when it is needed, and says what is wrong
        with suppress(EngineError, OSError):
            self._found = open_spare(assignment)

    def get(self) -> Held | None:
        """The container once it is open; None: it could not be had."""
        self._thread.join()
        return self._found


class LocalLane:
    """Runs tests one after another; used by one thread. Close it."""

    def __init__(
        self,
        context: LaneContext,
        *,
        take: Callable[[Assignment], Held],
        retire: Callable[[Held], None],
        shelf: Shelf[Held] | None = None,
    ) -> None:
        """`take` opens a container for a test, `retire` removes one. `shelf`: where those wait that the lane does
        not need at present.
        """
        self._context = context
        self._take = take
        self._retire = retire
        self._shelf = shelf
        self._held: Held | None = None
        self._flight: Flight | None = None
        """The next test, begun before its `run` was called."""
        self._announced: Announced | None = None
        self._last_seconds = 0.0
        self._last_bytes: int | None = 0
        self._spare: Spare | None = None

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
        for _ in range(BEGINNINGS):
            seen, flight = self._ran(assignment, folder_of, upcoming)
            if not self._was_lost_before_it_began(seen, flight):
                break
            self._drop()  # nothing was tried
        held = self._held
        if held is not None:
            self._conclude(held, flight, seen)
        else:
            seen.usage = not_measured(seen.failure or "there was no container")
        return self._evidence(seen, held, flight, seen.began - waits_since)

    def _ran(
        self,
        assignment: Assignment,
        folder_of: Callable[[Assignment], Path],
        upcoming: Callable[[], Assignment | None],
    ) -> tuple[Seen, Flight | None]:
        """What came of it up to the end of the test or of its container."""
        seen = Seen()
        flight: Flight | None = None
        try:
            flight = self._taken(assignment)
            if flight is None:
                flight = self._release(assignment, folder_of(assignment), self._fitting(assignment, seen))
            else:
                seen.began = flight.reading.started
            seen.run = self._read(flight, _Following(upcoming, folder_of))
            if seen.run.unexpected is not None:
                seen.failure = f"somebody but the agent has written to its streams, {seen.run.unexpected}"
        except EngineError as error:
            seen.failure = error.message
            seen.stopped = isinstance(error, StoppedWaitingError)
        except OSError as error:  # the disk under the folder is full, or we may open no more files
            seen.failure = f"keeping what the test wrote: {error}"
        seen.ended = time.monotonic()
        return seen, flight

    def _was_lost_before_it_began(self, seen: Seen, flight: Flight | None) -> bool:
        """Its container went with the engine, or by somebody else's doing, before the agent began the test."""
        held, run = self._held, seen.run
        if held is None or flight is None or run is None or run.record is not None:
            return False
        begun = run.begin_counters or not flight.first or not held.slot.has_agent
        if begun or run.timed_out or run.interrupted:
            return False
        availability = self._context.availability
        disturbance = availability.external_action(held.slot.container_id or "", settle=True)
        return availability.went_away(None, held.life) or disturbance is not None

    def close(self) -> None:
        """Remove the container that is held, and the one that was to follow it."""
        self._drop()
        spare = self._take_spare()
        if spare is not None:
            self._retire(spare)

    # ------------------------------------------------------------ a test's beginning

    def _taken(self, assignment: Assignment) -> Flight | None:
        """The flight of this assignment, if it was let in already."""
        flight, self._flight = self._flight, None
        if flight is None or flight.assignment is assignment:
            return flight
        flight.reading.close()  # against the contract of `upcoming`: what is in the container is no longer known
        self._drop()
        return None

    def _fitting(self, assignment: Assignment, seen: Seen) -> Held:
        """The held container if it may take this test, else one that waits for such a test, else a new one."""
        held = self._held
        if held is not None and self._may_take(held, assignment):
            return held
        self._put_aside()
        if self._shelf is not None and assignment.attempt == 1 and assignment.profile.reuse > 1:
            held = self._held = self._shelf.take(assignment.profile)
            if held is not None:
                return held
        held = self._held = self._open(assignment)
        seen.create_seconds, seen.start_seconds = held.slot.create_seconds, held.slot.start_seconds
        return held

    def _put_aside(self) -> None:
        """Keep the held container for a later test of its profile, if it may take one; else remove it."""
        held = self._held
        untouched = self._announced is None and self._flight is None
        if held is None or self._shelf is None or not untouched or not self._has_room(held):
            self._drop()
            return
        self._held = None
        self._shelf.put(held)

    def _open(self, assignment: Assignment) -> Held:
        """The spare container if it is of this profile, else a new one."""
        found = self._take_spare()
        if found is not None and found.profile == assignment.profile and assignment.attempt == 1:
            return found
        if found is not None:
            self._retire(found)
        return self._take(assignment)

    def _take_spare(self) -> Held | None:
        spare, self._spare = self._spare, None
        return None if spare is None else spare.get()

    @staticmethod
    def _has_room(held: Held) -> bool:
        return held.guard is not None and held.position < held.profile.reuse

    @classmethod
    def _may_take(cls, held: Held, assignment: Assignment) -> bool:
        same = held.profile is assignment.profile or held.profile == assignment.profile
        return same and cls._has_room(held) and held.alive and assignment.attempt == 1

    def _release(self, assignment: Assignment, folder: Path, held: Held) -> Flight:
        keep = held.guard is not None and held.position + 1 < held.profile.reuse
        first = not held.turns
        if first and held.slot.has_agent:
            self._begin(held, assignment, keep=keep)
        if held.slot.prepares(assignment):
            self._limit(held, room_bytes=PREPARE_BYTES)
        # before the first of several the agent has the modes of writable places read, by a program
        witnessed = not (keep and held.position == 0) and self._witnessed(held, assignment)
        reading = held.slot.release(assignment, folder=folder, keep=keep, first=first)
        if not held.slot.has_agent:
            held.meter.begin(held.slot.container_id or "", assignment.key, running=True)
            held.meter.begin_waits(assignment.profile.limits.cpus)
        flight = self._in_flight(held, assignment, reading, keep=keep, first=first)
        flight.witnessed = witnessed
        return flight

    @staticmethod
    def _witnessed(held: Held, assignment: Assignment) -> bool:
        """Have the kernel's word on the test that is let in now. Not on one that may be forked from a server: its
        parent is another process.
        """
        if held.witness is None or preload.plan(assignment) is not None:
            return False
        held.witness.begin()
        return True

    @staticmethod
    def _begin(held: Held, assignment: Assignment, *, keep: bool) -> None:
        """Measure from here on."""
        held.meter.begin(held.slot.container_id or "", assignment.key)
        held.meter.begin_waits(assignment.profile.limits.cpus)
        if keep and held.meter.begin_turns():
            held.turns, held.look = True, held.meter.look_between()

    def _prepared(self, held: Held, flight: Flight) -> None:
        """What the test is forked from stands, and the test waits: its figures begin here."""
        if flight.first:
            held.meter.samples()
            self._begin(held, flight.assignment, keep=flight.keep)
        elif held.turns:
            held.look = held.meter.look_between()
            held.meter.begin_waits(held.profile.limits.cpus)
        self._limit(held, room_bytes=0)
        held.agent_read = agent_counters(flight.reading.before)
        flight.agent_before, flight.look, flight.overlapped = held.agent_read, held.look, False
        held.floor_bytes = held.agent_read.memory_bytes

    def _limit(self, held: Held, *, room_bytes: int) -> None:
        """Hold the container to its profile's memory beyond what stands in it; with `room_bytes` at least to so
        much beyond that. An engine that cannot leaves the limit as it is, and the attestation says so.
        """
        stands = held.meter.stands_bytes()
        if stands is None:
            return
        present = held.limit_bytes or held.profile.limits.memory_bytes
        if room_bytes:
            wanted = max(present, stands + room_bytes)
        else:
            wanted = held.profile.limits.memory_bytes + -(-stands // LIMIT_STEP_BYTES) * LIMIT_STEP_BYTES
        if wanted <= present <= wanted + LIMIT_SLACK_BYTES:
            return
        with suppress(EngineError):
            self._context.availability.limit_memory(held.slot.container_id or "", wanted)
            held.limit_bytes, held.limit_seen_bytes = wanted, held.meter.memory_limit_bytes()

    @staticmethod
    def _in_flight(
        held: Held, assignment: Assignment, reading: OutputReader, *, keep: bool, first: bool
    ) -> Flight:
        held.position += 1
        return Flight(
            assignment=assignment,
            reading=reading,
            position=held.position,
            first=first,
            keep=keep,
            look=held.look,
            agent_before=held.agent_read,
        )

    # ------------------------------------------------------------ while it runs, and its end

    def _read(self, flight: Flight, following: _Following) -> SlotOutput:
        held = self._held
        assert held is not None  # noqa: S101 - what is in flight is in the held container
        lasting = None
        if not flight.first:
            key, started = flight.assignment.key, flight.reading.started

            def lasting() -> None:
                held.meter.watch(key, started)
                held.meter.begin_waits(held.profile.limits.cpus)

        def before_kill() -> None:
            held.frozen = held.meter.unfreeze() or held.frozen
            held.meter.look()
            self._look(held, flight)

        watch = Watch(
            prepared=lambda: self._prepared(held, flight),
            begun=lambda: self._announce(held, flight, following),
            measured=lambda: self._follow(held, flight, following),
            lasting=lasting,
            before_kill=before_kill,
            waited=held.meter.waited_seconds,
            signal=held.meter.signal,
        )
        return held.slot.read(flight.reading, flight.assignment, stop=self._context.stop, watch=watch)

    def _announce(self, held: Held, flight: Flight, following: _Following) -> None:
        """Lay the order for the next test ready, tell the agent of it behind a short one, and open a container for
        those after it. Behind a long one it can wait until that one's peak has been set back.
        """
        if not flight.keep or not held.turns or self._announced is not None or self._flight is not None:
            return
        assignment = following.upcoming()
        if assignment is None or not self._may_take(held, assignment):
            return
        keep = held.position + 1 < held.profile.reuse
        folder = following.folder_of(assignment)
        if held.slot.prepares(assignment):
            self._limit(held, room_bytes=PREPARE_BYTES)
        reading, line = held.slot.stage(assignment, folder=folder, keep=keep, first=False)
        announced = self._announced = Announced(assignment, reading, line, keep)
        if flight.after is None and not reading.prepares and self._is_slight(flight):
            announced.told = True
            held.slot.let_in(line)
        if held.profile.reuse - held.position == SPARE_AT and self._spare is None:
            self._spare = Spare(self._context.open_spare, assignment)

    def _follow(self, held: Held, flight: Flight, following: _Following) -> None:
        """The test's processes are gone and the agent has read its counters: look from outside too."""
        flight.followed = self._announced is not None and self._announced.told
        if flight.witnessed and held.witness is not None:
            flight.kernel_exit_code = held.witness.exit_code(flight.reading.exit_code)
        self._look(held, flight)
        held.agent_read = flight.agent_after = agent_counters(flight.reading.counters)
        if not flight.keep or flight.reading.exit_code != 0:
            return
        flight.doubt = self._doubt(held, flight)
        if flight.doubt is not None:
            return
        self._announce(held, flight, following)
        announced, self._announced = self._announced, None
        if announced is None:
            return
        witnessed = not announced.told and self._witnessed(held, announced.assignment)
        if not announced.told:
            held.slot.let_in(announced.line)
        following_one = self._in_flight(
            held, announced.assignment, announced.reading, keep=announced.keep, first=False
        )
        following_one.witnessed = witnessed
        following_one.overlapped = flight.followed
        self._flight = following_one

    def _is_slight(self, flight: Flight) -> bool:
        """Whether it will be short, and its peak too low to hide that of the test after it: by its history, else
        as the one before it in this lane was.
        """
        known = flight.assignment.history
        if flight.reading.prepares:
            return False
        if known is None:
            seconds, memory_bytes = self._last_seconds, self._last_bytes
        else:
            seconds, memory_bytes = known.duration_seconds_p95, known.memory_bytes_p95
        return seconds <= EARLY_SECONDS and memory_bytes is not None and memory_bytes <= TOLERANCE_BYTES

    @staticmethod
    def _look(held: Held, flight: Flight) -> None:
        if held.turns and flight.after is None:
            flight.after = held.look = held.meter.look_between()

    def _doubt(self, held: Held, flight: Flight) -> str | None:
        """Why the container may not be used again, as far as can be seen from outside."""
        changed = None if held.guard is None else held.guard.changed(flight.reading.serving)
        if changed is None and held.slot.resized:
            changed = "the size of its streams' buffers"
        if changed is not None:
            return f"{NOT_AGAIN}: the test changed {changed}{self._or_the_next(flight)}"
        charged = flight.agent_after.memory_bytes
        if charged is None:
            return None
        if not held.turns and LocalLane._hides_others(held, flight):
            return "its container is not used again: its peak of memory cannot be set back, and is high"
        if held.floor_bytes is None:
            held.floor_bytes = charged
        if charged - held.floor_bytes <= FLOOR_SHARE * held.profile.limits.memory_bytes:
            return None
        return f"{NOT_AGAIN}: {charged} bytes stay charged to it between tests"

    def _or_the_next(self, flight: Flight) -> str:
        """Who else it may have been: we look when the next test may run already."""
        following = self._flight.assignment if self._flight is not None else None
        if following is None and flight.followed and self._announced is not None:
            following = self._announced.assignment
        return "" if following is None else f" (unless {following.test.id} did, which had begun)"

    def _doubt_of_places(self, held: Held, flight: Flight) -> str | None:
        """The same of the writable places, once the agent has set back what it found."""
        changed = () if held.guard is None else held.guard.changed_places()
        if not changed:
            return None
        places = ", ".join(changed)
        return f"{NOT_AGAIN}: the test changed the mode or attributes of {places}{self._or_the_next(flight)}"

    @staticmethod
    def _hides_others(held: Held, flight: Flight) -> bool:
        """Whether a test has raised a peak that stays so far that it would be the bound of those after it."""
        before = agent_counters(flight.reading.before).memory_peak_bytes
        peak, now = flight.agent_after.memory_peak_bytes, flight.agent_after.memory_bytes
        if before is None or peak is None or now is None or peak <= before:
            return False
        return peak - now > HIDING_SHARE * held.profile.limits.memory_bytes

    def _conclude(self, held: Held, flight: Flight | None, seen: Seen) -> None:
        """Measure, hear the second witness, keep the container or remove it."""
        run = seen.run
        record = run.record if run is not None else None
        clean = record is not None and record.exit_code == 0 and not record.leftovers and not record.dirty
        if flight is not None and run is not None and (run.timed_out or run.interrupted):
            flight.doubt = flight.doubt or SIGNALLED
        self._last_seconds = math.inf if run is None else run.test_seconds
        seen.kept = bool(clean and flight is not None and flight.keep and seen.failure is None)
        seen.kept = seen.kept and held.guard is not None and held.guard.alive
        if seen.kept and flight is not None and flight.doubt is None:
            flight.doubt = self._doubt_of_places(held, flight)
        try:
            if run is not None and not seen.kept:
                held.slot.dismiss()
                inspection = self._context.availability.retry(held.slot.finish)
                seen.state = inspection.state if inspection else EngineState(status="gone")
                held.inspection = held.inspection or inspection  # the first, with the limits that were asked for
            elif seen.kept:
                seen.state = RUNNING
        except EngineError as error:
            seen.failure = error.message
        if run is not None:
            seen.failure = seen.failure or self._interference(held, flight, run, seen)
            seen.kept = seen.kept and seen.failure is None
        if held.attestation is None and held.inspection is not None:
            held.attestation = attest(
                held.inspection,
                asked=held.slot.spec,
                begin=run.begin_counters if run else "",
                info=self._context.info,
                host_view=held.view,
            )
        seen.attestation = with_memory_limit(held.attestation, asked=held.limit_bytes, seen=held.limit_seen_bytes)
        self._measure(held, flight, seen)
        if seen.kept and run is not None and flight is not None and flight.doubt is None:
            self._go_on(held, run)
        else:
            self._drop()
            seen.leaked = held.slot.leaked

    def _interference(self, held: Held, flight: Flight | None, run: SlotOutput, seen: Seen) -> str | None:
        """Why nothing is known of the test although engine and agent have answered: the engine was ended while its
        container was there, and what it says of that now is no witness; or somebody else laid hands on it.
        """
        availability, kept = self._context.availability, seen.kept
        odd = not kept and not _as_expected(held, run, seen.state)
        kind = availability.external_action(
            held.slot.container_id or "",
            ending=run.timed_out or run.interrupted,
            settle=odd and not run.interrupted,
        )
        untrusted = not kept and (odd or held.life != availability.generation)
        may_be_engine = kind in ENGINE_ACTIONS or (kind is None and untrusted)
        if may_be_engine and not run.interrupted and availability.went_away(None, held.life):
            if flight is not None:
                flight.doubt = flight.doubt or ENGINE_ENDED
            return ENGINE_ENDED if untrusted else None
        if kind is not None:
            return f"the container was {EXTERNAL_ACTIONS[kind]}"
        return "the container was frozen externally (by its cgroup)" if held.frozen else None

    def _measure(self, held: Held, flight: Flight | None, seen: Seen) -> None:
        run = seen.run
        seen.samples = held.meter.samples()
        context = self._context
        image_id = context.pinned_image(held.slot.spec.image_id)
        if flight is not None and run is not None and flight.look is not None and flight.after is not None:
            turn = Turn(
                agent_before=agent_counters(run.begin_counters) if flight.first else flight.agent_before,
                agent_after=flight.agent_after,
                before=flight.look,
                after=flight.after,
                overlapped=flight.overlapped,
                seconds=(flight.reading.ended or math.inf) - flight.look.at,
                followed=flight.followed,
                ended_others=_may_have_ended_others(run.record),
            )
            usage = turn_usage(turn, seen.samples)
            known = context.calibration(reused=not flight.first)
        else:
            plain = None if held.slot.has_agent else NO_AGENT
            usage = held.meter.usage(run, seen.samples, reason=seen.failure or plain)
            known = context.calibration(reused=False)
        # a test whose agent did not come to its end did not cost what a null test's did
        calibration = known.get(image_id) if run is not None and run.record is not None else None
        seen.usage = corrected(usage, calibration)
        waits = held.meter.take_waits()
        if waits is not None and run is not None:
            seen.waited_seconds = waits.in_all(
                seconds=run.test_seconds, cpu_seconds=usage.cpu_seconds, throttled_seconds=usage.throttled_seconds
            )
            seen.starved = run.timed_out and waits.starved(
                seconds=run.test_seconds, limit_seconds=held.profile.limits.timeout_seconds
            )
        self._last_bytes = seen.usage.memory_peak_bytes

    def _go_on(self, held: Held, run: SlotOutput) -> None:
        """The container waits for its next test, or has it already."""
        flight = self._flight
        if run.clean_counters:  # what went into the cleaning, and what was cleaned away, is not the next one's
            held.agent_read = agent_counters(run.clean_counters)
            if held.turns:
                held.look = held.meter.look_between()
            if flight is not None:
                flight.agent_before, flight.look = held.agent_read, held.look
                flight.overlapped = False
            if flight is not None and flight.witnessed and held.witness is not None:
                held.witness.begin()  # the cleaning took programs
            held.slot.go()
        if flight is not None:
            flight.reading.restart()

    def _drop(self) -> None:
        """Remove the held container, and forget what was begun in it or was to be: it is run anew."""
        if self._announced is not None:
            self._announced.reading.close()
            self._announced = None
        if self._flight is not None:
            self._flight.reading.close()
            self._flight = None
        held, self._held = self._held, None
        if held is not None:
            self._retire(held)

    # ------------------------------------------------------------ what was seen

    def _evidence(self, seen: Seen, held: Held | None, flight: Flight | None, queue_seconds: float) -> Evidence:
        run = seen.run
        return Evidence(
            agent=run.record if run else None,
            agent_expected=held is None or held.slot.has_agent,
            engine=seen.state,
            timed_out=run is not None and run.timed_out,
            interrupted=seen.stopped or (run is not None and run.interrupted),
            engine_failure=seen.failure,
            usage=seen.usage,
            samples=seen.samples,
            stdout=run.stdout if run else NO_OUTPUT,
            stderr=run.stderr if run else NO_OUTPUT,
            outputs=run.outputs if run else (),
            outputs_notes=run.outputs_notes if run else (),
            leaked_objects=seen.leaked,
            timings=Timings(
                queue_seconds=max(0.0, queue_seconds),
                create_seconds=seen.create_seconds,
                start_seconds=seen.start_seconds + (run.prepare_seconds if run else 0.0),
                test_seconds=run.test_seconds if run else 0.0,
                teardown_seconds=time.monotonic() - seen.ended,
            ),
            started_at=run.started_at if run else datetime.now(UTC),
            attestation=seen.attestation,
            slot=_slot_use(flight, run),
            kept=seen.kept,
            kernel_exit_code=flight.kernel_exit_code if flight is not None else None,
            cpu_waited_seconds=seen.waited_seconds,
            starved=seen.starved,
        )


def _as_expected(held: Held, run: SlotOutput, state: EngineState | None) -> bool:
    """Both witnesses name the same exit code; the only one, where there is no agent, one that is no signal's."""
    if state is None or state.exit_code is None:
        return False
    if not held.slot.has_agent:
        return state.exit_code < 128
    return run.record is not None and state.exit_code == run.record.exit_code


def _may_have_ended_others(record: AgentRecord | None) -> bool:
    """The agent ends all there is with what a test leaves; and a test can end what it was forked from."""
    return record is None or bool(record.leftovers or record.dirty) or record.exit_code == 128 + signal.SIGKILL


def _slot_use(flight: Flight | None, run: SlotOutput | None) -> SlotUse:
    if flight is None:
        return SlotUse()
    launch, refusal = run.launch if run else (Launch.PROCESS, None)
    notes = [refusal, flight.doubt]
    record = None if run is None else run.record
    if record is not None and record.dirty:
        notes.append(f"{NOT_AGAIN}: what could not be set back: {', '.join(record.dirty)}")
    elif record is not None and record.modes:
        notes.append(f"the test changed the mode of {' and '.join(record.modes)}, which was set back")
    return SlotUse(position=flight.position, launch=launch, note="; ".join(filter(None, notes)) or None)
