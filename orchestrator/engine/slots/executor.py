"""The containers of one run on one engine: how they are opened for tests and removed after them."""

from __future__ import annotations

import copy
import itertools
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine import labels
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.engine.images.pinned import PinnedImages, is_missing
from orchestrator.engine.isolation import hardening
from orchestrator.engine.metering.exit_witness import ExitWitness
from orchestrator.engine.metering.slot_meter import Meter
from orchestrator.engine.slots.idle_slots import Shelf, bounds
from orchestrator.engine.slots.init_process import Guard
from orchestrator.engine.slots.lane import LaneContext, LocalLane
from orchestrator.engine.slots.open_slot import Held
from orchestrator.engine.slots.slot import PlainSlot, Slot
from orchestrator.engine.slots.slot_pool import SlotPool, workers
from orchestrator.errors import EngineError, NoShellError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from orchestrator.engine.base import ContainerSpec, Engine, Inspection
    from orchestrator.engine.isolation.hardening import ContainerContext
    from orchestrator.engine.labels import Owner
    from orchestrator.measure.calibration import Calibration
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model.evidence import Evidence
    from orchestrator.model.runs import EngineInfo
    from orchestrator.model.tests import Assignment
    from orchestrator.stop_flag import StopFlag


def can_share_fifos(info: EngineInfo) -> bool:
    """True where a mounted folder's FIFOs reach into a container. ORCH_STREAMS=attach does without them."""
    return info.local and os.environ.get("ORCH_STREAMS") != "attach"


@dataclass(slots=True)
class Tally:
    """What a run meant to create, created and removed."""

    expected: int = 0
    created: int = 0
    removed: int = 0


class LocalExecutor:
    """Drives the containers of one run on one engine; lanes may be used by many threads, each by one."""

    def __init__(
        self,
        engine: Engine,
        *,
        context: ContainerContext,
        owner: Owner,
        images: PinnedImages | Mapping[str, str],
        sampler: Sampler,
        stop: StopFlag,
        work_dir: Path,
        availability: EngineAvailability | None = None,
    ) -> None:
        """`images`: name -> pinned ID, of an image that may still have to be prepared for the agent, or who has
        a removed one again. `work_dir`: a folder of this run's own for the slots' FIFOs. `availability`: waits for
        the engine where it goes away.
        """
        self.engine = engine
        self.availability = availability or EngineAvailability(engine, stop)
        self._context = context
        self._owner = owner
        if not isinstance(images, PinnedImages):
            images = PinnedImages({name: prepared_image(engine, image_id) for name, image_id in images.items()})
        self._images = images
        self._sampler = sampler
        self.stop = stop
        self._work_dir = work_dir
        self._numbers = itertools.count(1)
        self._fifos = can_share_fifos(engine.info)
        self._lock = threading.Lock()
        self._shell_less: set[str] = set()
        self._volumes: dict[str, frozenset[str]] = {}
        """Image ID -> folders that it declares as volumes."""
        self.tally = Tally()
        self.calibrations: Mapping[str, Calibration] = {}
        """Image ID -> what a test that does nothing costs in it; figures are corrected by it."""
        self.turn_calibrations: Mapping[str, Calibration] = {}
        """The same for a test that comes after another in its container."""
        self._pool = self._new_pool()
        self._shelf = self._new_shelf()

    def _new_pool(self) -> SlotPool[Held]:
        starters, removers = workers(self.engine.info.cpus)
        return SlotPool(self.open, self.close_slot, ahead=starters, starters=starters, removers=removers)

    def _new_shelf(self) -> Shelf[Held]:
        most, most_bytes = bounds(self.engine.info)
        return Shelf(self._pool.retire, most=most, most_bytes=most_bytes)

    def apart(self) -> LocalExecutor:
        """The same executor with a tally of its own, for containers that are no test's."""
        other = copy.copy(self)
        other.tally = Tally()
        other._pool = other._new_pool()
        other._shelf = other._new_shelf()
        return other

    def lane_context(self) -> LaneContext:
        """What a lane needs of this executor."""
        return LaneContext(
            info=self.engine.info,
            availability=self.availability,
            stop=self.stop,
            open_spare=lambda assignment: self.open(assignment, spare=True),
            pinned_image=self.pinned_image,
            calibration=lambda *, reused: self.turn_calibrations if reused else self.calibrations,
        )

    def lane(self) -> LocalLane:
        """A place where tests run one after another; its containers are opened ahead and removed behind it."""
        return LocalLane(self.lane_context(), take=self._pool.take, retire=self._pool.retire, shelf=self._shelf)

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """These are likely to be run next, in this order."""
        self._pool.prepare(assignments)

    def close(self) -> None:
        """Remove what was opened ahead of need or waits, and await what is being removed. Lanes come first."""
        self._shelf.close()
        self._pool.close()

    def run(self, assignment: Assignment, queue_seconds: float, folder: Path) -> Evidence:
        """One attempt in a lane of its own, of which nothing is left then. `folder` exists and receives stdout,
        stderr and outputs/.
        """
        lane = LocalLane(self.lane_context(), take=self.open, retire=self.close_slot)
        try:
            return lane.run(assignment, time.monotonic() - queue_seconds, lambda _: folder)
        finally:
            lane.close()

    def open(self, assignment: Assignment, *, spare: bool = False) -> Held:
        """A container for this assignment, its agent waiting. An engine that is away is waited for. EngineError;
        nothing is left behind then. `spare`: for any like it; its name is no test's alone.
        """
        self.count(expected=1)
        return self.availability.retry(lambda: self._open_with_image(assignment, spare=spare), ask=True)

    def _open_with_image(self, assignment: Assignment, *, spare: bool) -> Held:
        name = assignment.profile.image
        image_id = self._images[name]
        try:
            return self._open(assignment, spare=spare)
        except NotFoundError as error:
            if not is_missing(error):
                raise
        self._images.restore(name, image_id)
        return self._open(assignment, spare=spare)

    def pinned_image(self, image_id: str) -> str:
        """See `PinnedImages.pinned`."""
        return self._images.pinned(image_id)

    def _open(self, assignment: Assignment, *, spare: bool) -> Held:
        number = next(self._numbers)
        meter = Meter(self.engine, self._sampler, self._owner.run_id, number)
        streams_dir = self._work_dir / f"slot-{number}" if self._fifos else None
        spec = self.spec(assignment, streams_dir=streams_dir, cgroup_parent=meter.parent, spare=spare)
        held = Held(
            slot=self._slot(spec, assignment, streams_dir),
            meter=meter,
            profile=assignment.profile,
            life=self.availability.generation,
        )
        try:
            try:
                held.slot.open()
            except NoShellError:
                # the container never ran; its place is taken by one that has the test as its own process
                held.slot.close()
                self._shell_less.add(spec.image_id)
                held.slot = self._slot(spec, assignment, streams_dir)
                held.slot.open()
            self.count(created=1)
            if held.slot.has_agent:
                held.view = meter.view(held.slot.container_id or "")
            if held.slot.has_agent and self._fifos:
                held.inspection = self.engine.inspect(held.slot.container_id or "")
                held.witness = _witness(held.inspection)
            if held.inspection is not None and self.reusable(held, assignment):
                held.guard = _guard(held.inspection)
        except BaseException:
            self.close_slot(held)
            raise
        return held

    def reusable(self, held: Held, assignment: Assignment) -> bool:
        """Whether the container may take another test after this one. Only on this machine: elsewhere nobody
        sees what a test has done to the agent. Nor where the image declares volumes: nobody empties these.
        """
        wanted = assignment.profile.reuse > 1 and assignment.attempt == 1
        return wanted and self._fifos and held.slot.has_agent and not held.slot.spec.volumes

    def _slot(self, spec: ContainerSpec, assignment: Assignment, streams_dir: Path | None) -> Slot:
        if spec.image_id in self._shell_less:
            return PlainSlot(self.engine, hardening.without_agent(spec, assignment))
        return Slot(self.engine, spec, streams_dir=streams_dir)

    def spec(
        self,
        assignment: Assignment,
        *,
        streams_dir: Path | None,
        cgroup_parent: str | None,
        spare: bool = False,
    ) -> ContainerSpec:
        """The settings of an assignment's container."""
        name = labels.container_name(assignment) + ("-spare" if spare else "")
        image_id = self._images[assignment.profile.image]
        if image_id not in self._volumes:
            self._volumes[image_id] = self.engine.image_volumes(image_id)
        return hardening.container_spec(
            assignment.profile,
            self._context,
            name=name,
            image_id=image_id,
            volumes=self._volumes[image_id],
            labels=labels.container_labels(assignment, self._owner, name),
            streams_dir=streams_dir,
            cgroup_parent=cgroup_parent,
        )

    def close_slot(self, held: Held) -> None:
        """Remove container and cgroup; an engine that is away is waited for. What cannot be removed is found by
        the reaper, by its labels, and stands in the ledger as left; the test's own result is not touched by it.
        """
        if held.guard is not None:
            held.guard.kill()
        try:
            self.availability.retry(held.slot.close)
            if held.slot.container_id is not None:
                self.count(removed=1)
        except (EngineError, OSError):
            return
        finally:
            held.meter.close()
            if held.guard is not None:
                held.guard.close()
            if held.witness is not None:
                held.witness.close()

    def count(self, *, expected: int = 0, created: int = 0, removed: int = 0) -> None:
        """Keep the ledger."""
        with self._lock:
            self.tally.expected += expected
            self.tally.created += created
            self.tally.removed += removed


def _witness(inspection: Inspection) -> ExitWitness | None:
    """None: this kernel, or this user, cannot hear of processes that end."""
    try:
        return None if inspection.pid is None else ExitWitness(inspection.pid)
    except OSError:
        return None


def _guard(inspection: Inspection) -> Guard | None:
    """None: it cannot be watched from here, so that it takes one test only."""
    try:
        return None if inspection.pid is None else Guard(inspection.pid, hardening.WRITABLE)
    except (OSError, AttributeError):  # a kernel without pidfd
        return None
