"""The same tests in slots of the pool: our engine's calls, the agent on FIFOs, both witnesses, removal behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.fresh.bare import LABEL
from orchestrator.engine import labels
from orchestrator.engine.isolation import hardening
from orchestrator.engine.slots.container import SlotContainer
from orchestrator.engine.slots.session import Session, SlotEvent
from orchestrator.measure.cgroups import AGENT_FILES_V1, AGENT_FILES_V2
from orchestrator.stop_flag import StopFlag

if TYPE_CHECKING:
    from orchestrator.engine.base import ContainerSpec, Engine
    from orchestrator.engine.slots.prestarted_slots import PrestartedSlots
    from orchestrator.model.tests import Assignment


class Pooled:
    """Open, run and remove; `folder` is the run's, `project` the mounted one."""

    def __init__(self, engine: Engine, image: str, folder: Path, project: Path, seccomp: str) -> None:
        self.engine = engine
        self.image = image
        self.folder = folder
        self.stop = StopFlag()
        counters = AGENT_FILES_V2 if engine.info.cgroup_version == 2 else AGENT_FILES_V1
        self.context = hardening.ContainerContext(
            project_root=project, state_dir=project / ".orch", seccomp=seccomp, counters=counters
        )

    def spec(self, assignment: Assignment, streams: Path | None) -> ContainerSpec:
        name = labels.container_name(assignment)
        return hardening.container_spec(
            assignment.profile,
            self.context,
            name=name,
            image_id=self.image,
            labels={LABEL: str(os.getpid()), labels.WORK_DIR: str(self.folder)},
            streams_dir=streams,
            cgroup_parent=None,
        )

    def open(self, assignment: Assignment) -> tuple[SlotContainer, Session]:
        streams = self.folder / labels.container_name(assignment)
        slot = SlotContainer(self.engine, self.spec(assignment, streams), streams_dir=streams)
        return slot, slot.open()

    def close(self, slot: tuple[SlotContainer, Session]) -> None:
        slot[0].close()

    def run(self, pool: PrestartedSlots[tuple[SlotContainer, Session]], assignment: Assignment) -> None:
        slot = container, session = pool.take(assignment)
        try:
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                reading = session.start(assignment, folder=Path(folder), keep=False, first=True)
                *_, ran = session.events(reading, assignment, stop=self.stop)
            seen = container.await_exit()
            assert not isinstance(ran, SlotEvent)
            assert ran.record is not None
            assert seen is not None
            assert ran.record.exit_code == seen.state.exit_code == 0
        finally:
            pool.retire(slot)
