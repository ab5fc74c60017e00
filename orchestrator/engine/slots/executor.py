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
from orchestrator.engine.metering.slot_meter import SlotMeter
from orchestrator.engine.slots.idle_slots import IdleSlotPool, idle_limits
from orchestrator.engine.slots.init_process import InitProcessMonitor
from orchestrator.engine.slots.lane import LaneContext, SlotLane
from orchestrator.engine.slots.open_slot import OpenSlot
from orchestrator.engine.slots.prestarted_slots import PrestartedSlots, worker_counts
from orchestrator.engine.slots.slot import PlainContainer, SlotContainer
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
        self._without_shell: set[str] = set()
        self._volumes: dict[str, frozenset[str]] = {}
        """Image ID -> folders that it declares as volumes."""
        self.tally = Tally()
        self.calibrations: Mapping[str, Calibration] = {}
        """Image ID -> what a test that does nothing costs in it; figures are corrected by it."""
        self.reused_calibrations: Mapping[str, Calibration] = {}
        """The same for a test that comes after another in its container."""
        self._prestarted = self._new_prestarted()
        self._idle_slots = self._new_idle_slots()

    def _new_prestarted(self) -> PrestartedSlots[OpenSlot]:
        starters, removers = worker_counts(self.engine.info.cpus)
        return PrestartedSlots(
            self.open, self.close_slot, max_ahead=starters, starters=starters, removers=removers
        )

    def _new_idle_slots(self) -> IdleSlotPool[OpenSlot]:
        max_slots, max_bytes = idle_limits(self.engine.info)
        return IdleSlotPool(self._prestarted.retire, max_slots=max_slots, max_bytes=max_bytes)

    def apart(self) -> LocalExecutor:
        """The same executor with a tally of its own, for containers that are no test's."""
        other = copy.copy(self)
        other.tally = Tally()
        other._prestarted = other._new_prestarted()
        other._idle_slots = other._new_idle_slots()
        return other

    def lane_context(self) -> LaneContext:
        """What a lane needs of this executor."""
        return LaneContext(
            info=self.engine.info,
            availability=self.availability,
            stop=self.stop,
            open_standby=lambda assignment: self.open(assignment, standby=True),
            pinned_image=self.pinned_image,
            calibration=lambda *, reused: self.reused_calibrations if reused else self.calibrations,
        )

    def lane(self) -> SlotLane:
        """A place where tests run one after another; its containers are opened max_ahead and removed behind it."""
        return SlotLane(
            self.lane_context(),
            take=self._prestarted.take,
            retire=self._prestarted.retire,
            idle_slots=self._idle_slots,
        )

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """These are likely to be run next, in this order."""
        self._prestarted.prepare(assignments)

    def close(self) -> None:
        """Remove what was opened max_ahead of need or waits, and await what is being removed. Lanes come first."""
        self._idle_slots.close()
        self._prestarted.close()

    def run(self, assignment: Assignment, queue_seconds: float, folder: Path) -> Evidence:
        """One attempt in a lane of its own, of which nothing is left then. `folder` exists and receives stdout,
        stderr and outputs/.
        """
        lane = SlotLane(self.lane_context(), take=self.open, retire=self.close_slot)
        try:
            return lane.run(assignment, time.monotonic() - queue_seconds, lambda _: folder)
        finally:
            lane.close()

    def open(self, assignment: Assignment, *, standby: bool = False) -> OpenSlot:
        """A container for this assignment, its agent waiting. An engine that is away is waited for. EngineError;
        nothing is left behind then. `standby`: for any like it; its name is no test's alone.
        """
        self.count(expected=1)
        return self.availability.retry(lambda: self._open_with_image(assignment, standby=standby), ask=True)

    def _open_with_image(self, assignment: Assignment, *, standby: bool) -> OpenSlot:
        name = assignment.profile.image
        image_id = self._images[name]
        try:
            return self._open(assignment, standby=standby)
        except NotFoundError as error:
            if not is_missing(error):
                raise
        self._images.restore(name, image_id)
        return self._open(assignment, standby=standby)

    def pinned_image(self, image_id: str) -> str:
        """See `PinnedImages.pinned`."""
        return self._images.pinned(image_id)

    def _open(self, assignment: Assignment, *, standby: bool) -> OpenSlot:
        number = next(self._numbers)
        meter = SlotMeter(self.engine, self._sampler, self._owner.run_id, number)
        streams_dir = self._work_dir / f"slot-{number}" if self._fifos else None
        spec = self.spec(assignment, streams_dir=streams_dir, cgroup_parent=meter.parent, standby=standby)
        slot = OpenSlot(
            container=self._container(spec, assignment, streams_dir),
            meter=meter,
            profile=assignment.profile,
            engine_generation=self.availability.generation,
        )
        try:
            try:
                slot.container.open()
            except NoShellError:
                # the container never ran; its place is taken by one that has the test as its own process
                slot.container.close()
                self._without_shell.add(spec.image_id)
                slot.container = self._container(spec, assignment, streams_dir)
                slot.container.open()
            self.count(created=1)
            if slot.container.has_agent:
                slot.kernel_view = meter.kernel_view(slot.container.container_id or "")
            if slot.container.has_agent and self._fifos:
                slot.inspection = self.engine.inspect(slot.container.container_id or "")
                slot.exit_witness = _exit_witness(slot.inspection)
            if slot.inspection is not None and self.reusable(slot, assignment):
                slot.init_process = _init_process(slot.inspection)
        except BaseException:
            self.close_slot(slot)
            raise
        return slot

    def reusable(self, slot: OpenSlot, assignment: Assignment) -> bool:
        """Whether the container may take another test after this one. Only on this machine: elsewhere nobody
        sees what a test has done to the agent. Nor where the image declares volumes: nobody empties these.
        """
        wanted = assignment.profile.reuse > 1 and assignment.attempt == 1
        return wanted and self._fifos and slot.container.has_agent and not slot.container.spec.volumes

    def _container(self, spec: ContainerSpec, assignment: Assignment, streams_dir: Path | None) -> SlotContainer:
        if spec.image_id in self._without_shell:
            return PlainContainer(self.engine, hardening.without_agent(spec, assignment))
        return SlotContainer(self.engine, spec, streams_dir=streams_dir)

    def spec(
        self,
        assignment: Assignment,
        *,
        streams_dir: Path | None,
        cgroup_parent: str | None,
        standby: bool = False,
    ) -> ContainerSpec:
        """The settings of an assignment's container."""
        name = labels.container_name(assignment) + ("-standby" if standby else "")
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

    def close_slot(self, slot: OpenSlot) -> None:
        """Remove container and cgroup; an engine that is away is waited for. What cannot be removed is found by
        the reaper, by its labels, and stands in the ledger as left; the test's own result is not touched by it.
        """
        if slot.init_process is not None:
            slot.init_process.kill()
        try:
            self.availability.retry(slot.container.close)
            if slot.container.container_id is not None:
                self.count(removed=1)
        except (EngineError, OSError):
            return
        finally:
            slot.meter.close()
            if slot.init_process is not None:
                slot.init_process.close()
            if slot.exit_witness is not None:
                slot.exit_witness.close()

    def count(self, *, expected: int = 0, created: int = 0, removed: int = 0) -> None:
        """Keep the ledger."""
        with self._lock:
            self.tally.expected += expected
            self.tally.created += created
            self.tally.removed += removed


def _exit_witness(inspection: Inspection) -> ExitWitness | None:
    """None: this kernel, or this user, cannot hear of processes that end."""
    try:
        return None if inspection.pid is None else ExitWitness(inspection.pid)
    except OSError:
        return None


def _init_process(inspection: Inspection) -> InitProcessMonitor | None:
    """None: it cannot be watched from here, so that it takes one test only."""
    try:
        return None if inspection.pid is None else InitProcessMonitor(inspection.pid, hardening.WRITABLE)
    except (OSError, AttributeError):  # a kernel without pidfd
        return None
