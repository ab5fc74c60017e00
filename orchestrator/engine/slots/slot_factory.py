"""Opens and removes the slots of one run on one engine."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from orchestrator.engine import labels
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.engine.images.pinned import PinnedImages, is_missing
from orchestrator.engine.isolation import hardening
from orchestrator.engine.metering.exit_witness import ExitWitness
from orchestrator.engine.metering.slot_meter import SlotMeter
from orchestrator.engine.slots.container import PlainContainer, SlotContainer
from orchestrator.engine.slots.init_process import InitProcessMonitor
from orchestrator.engine.slots.open_slot import OpenSlot
from orchestrator.errors import EngineError, NoShellError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.engine.base import ContainerSpec, Engine
    from orchestrator.engine.docker.availability import EngineAvailability
    from orchestrator.engine.isolation.hardening import ContainerContext
    from orchestrator.engine.labels import Owner
    from orchestrator.engine.slots.session import Session
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model.runs import EngineInfo
    from orchestrator.model.tests import Assignment


def can_share_fifos(info: EngineInfo) -> bool:
    """Return whether a container can use FIFOs of a mounted folder; ORCH_STREAMS=attach disables that."""
    return info.local and os.environ.get("ORCH_STREAMS") != "attach"


class SlotFactory:
    """Opens and removes slots. Any thread may call any method."""

    def __init__(
        self,
        engine: Engine,
        *,
        availability: EngineAvailability,
        context: ContainerContext,
        owner: Owner,
        images: PinnedImages | Mapping[str, str],
        sampler: Sampler,
        work_dir: Path,
    ) -> None:
        """Use `availability` to wait for an engine that goes away.

        `images` has the pinned ID of each image by name; the images of a plain mapping are first prepared for the
        agent. `work_dir` is a folder of this run alone, for the FIFOs of its slots.
        """
        self.engine = engine
        self.availability = availability
        self._context = context
        self._owner = owner
        if not isinstance(images, PinnedImages):
            images = PinnedImages({name: prepared_image(engine, image_id) for name, image_id in images.items()})
        self.images = images
        self._sampler = sampler
        self._work_dir = work_dir
        self._numbers = itertools.count(1)
        self._fifos = can_share_fifos(engine.info)
        self._without_shell: set[str] = set()
        """The IDs of images in which no agent can run."""
        self._volumes: dict[str, frozenset[str]] = {}
        """The folders that each image declares as volumes, by the image's ID."""

    def open(self, assignment: Assignment, *, standby: bool = False) -> OpenSlot:
        """Open a slot for this assignment and return it once its agent waits.

        Wait for an engine that is away, and restore an image that was removed. With `standby`, the slot is for any
        test with the same profile, and its name says so. Raises EngineError; then nothing is left behind.
        """
        return self.availability.retry(lambda: self._open_with_image(assignment, standby=standby), ask=True)

    def _open_with_image(self, assignment: Assignment, *, standby: bool) -> OpenSlot:
        name = assignment.profile.image
        image_id = self.images[name]
        try:
            return self._open(assignment, standby=standby)
        except NotFoundError as error:
            if not is_missing(error):
                raise
        self.images.restore(name, image_id)
        return self._open(assignment, standby=standby)

    def _open(self, assignment: Assignment, *, standby: bool) -> OpenSlot:
        number = next(self._numbers)
        meter = SlotMeter(self.engine, self._sampler, self._owner.run_id, number)
        streams_dir = self._work_dir / f"slot-{number}" if self._fifos else None
        spec = self.spec(assignment, streams_dir=streams_dir, cgroup_parent=meter.parent, standby=standby)
        generation = self.availability.generation
        container = self._container(spec, assignment, streams_dir)
        try:
            try:
                session = container.open()
            except NoShellError:
                # the container never ran; open one that has the test as its main process
                container.close()
                self._without_shell.add(spec.image_id)
                container = self._container(spec, assignment, streams_dir)
                session = container.open()
        except BaseException:
            self._remove(container, meter)
            raise
        slot = OpenSlot(
            container=container,
            session=session,
            meter=meter,
            profile=assignment.profile,
            engine_generation=generation,
        )
        try:
            self._observe(slot, session, assignment)
        except BaseException:
            self.close(slot)
            raise
        return slot

    def _container(self, spec: ContainerSpec, assignment: Assignment, streams_dir: Path | None) -> SlotContainer:
        if spec.image_id in self._without_shell:
            return PlainContainer(self.engine, hardening.without_agent(spec, assignment))
        return SlotContainer(self.engine, spec, streams_dir=streams_dir)

    def _observe(self, slot: OpenSlot, session: Session, assignment: Assignment) -> None:
        """Start to observe the container from outside, while its agent waits for the first test."""
        if not session.has_agent:
            return
        slot.kernel_view = slot.meter.kernel_view(session.container_id)
        if not self._fifos:
            return
        inspection = slot.inspection = self.engine.inspect(session.container_id)
        slot.exit_witness = _exit_witness(inspection.pid)
        if self._reusable(slot, assignment):
            slot.init_process = _init_process(inspection.pid)

    @staticmethod
    def _reusable(slot: OpenSlot, assignment: Assignment) -> bool:
        """Return whether the slot may take another test after this one.

        The caller has checked that it uses FIFOs, so that its process 1 can be monitored for changes. An image
        that declares volumes is excluded, because nothing empties them.
        """
        return assignment.profile.reuse > 1 and assignment.attempt == 1 and not slot.container.spec.volumes

    def spec(
        self,
        assignment: Assignment,
        *,
        streams_dir: Path | None,
        cgroup_parent: str | None,
        standby: bool = False,
    ) -> ContainerSpec:
        """Return the settings of the container for an assignment."""
        name = labels.container_name(assignment) + ("-standby" if standby else "")
        image_id = self.images[assignment.profile.image]
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

    def close(self, slot: OpenSlot) -> bool:
        """Remove the slot's container and cgroup, and return whether a container was removed.

        Wait for an engine that is away. A container that cannot be removed raises nothing, because the test's
        result does not depend on it; the reaper finds it later by its labels.
        """
        if slot.init_process is not None:
            slot.init_process.kill()
        try:
            return self._remove(slot.container, slot.meter)
        finally:
            if slot.init_process is not None:
                slot.init_process.close()
            if slot.exit_witness is not None:
                slot.exit_witness.close()

    def _remove(self, container: SlotContainer, meter: SlotMeter) -> bool:
        try:
            self.availability.retry(container.close)
        except (EngineError, OSError):
            return False
        finally:
            meter.close()
        return container.container_id is not None


def _exit_witness(pid: int | None) -> ExitWitness | None:
    """Return a receiver of the process's events; None if this kernel or this user cannot receive them."""
    try:
        return None if pid is None else ExitWitness(pid)
    except OSError:
        return None


def _init_process(pid: int | None) -> InitProcessMonitor | None:
    """Return a monitor of the process; None if it cannot be monitored, so that the slot takes one test only."""
    try:
        return None if pid is None else InitProcessMonitor(pid, hardening.WRITABLE)
    except (OSError, AttributeError):  # a kernel without pidfd
        return None
