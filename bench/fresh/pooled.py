"""The same tests in slots of the pool: our engine's calls, the agent on FIFOs, both witnesses, removal behind."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.fresh.bare import LABEL
from orchestrator.engine import hardening, labels
from orchestrator.engine.fifos import FifoChannel
from orchestrator.measure.cgroups import AGENT_FILES_V1, AGENT_FILES_V2

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.engine.base import ContainerSpec, Engine
    from orchestrator.engine.pool import SlotPool
    from orchestrator.model import Assignment


@dataclass
class Opened:
    container: str
    channel: FifoChannel


class Pooled:
    """Open, run and remove; `folder` is the run's, `project` the mounted one."""

    def __init__(self, engine: Engine, image: str, folder: Path, project: Path, seccomp: str) -> None:
        self.engine = engine
        self.image = image
        self.folder = folder
        counters = AGENT_FILES_V2 if engine.info.cgroup_version == 2 else AGENT_FILES_V1
        self.around = hardening.Surroundings(
            project_root=project, state_dir=project / ".orch", seccomp=seccomp, counters=counters
        )

    def spec(self, assignment: Assignment, streams: Path | None) -> ContainerSpec:
        name = labels.container_name(assignment)
        return hardening.container_spec(
            assignment.profile,
            self.around,
            name=name,
            image_id=self.image,
            labels={LABEL: str(os.getpid()), labels.PLACE: str(self.folder)},
            streams_dir=streams,
            cgroup_parent=None,
        )

    def open(self, assignment: Assignment) -> Opened:
        streams = self.folder / labels.container_name(assignment)
        channel = FifoChannel(streams)
        container = self.engine.create(self.spec(assignment, streams))
        self.engine.start(container)
        return Opened(container, channel)

    def close(self, slot: Opened) -> None:
        self.engine.remove(slot.container)
        slot.channel.close()

    def run(self, pool: SlotPool[Opened], assignment: Assignment) -> None:
        slot = pool.take(assignment)
        try:
            nonce = uuid.uuid4().hex
            slot.channel.write(hardening.order(assignment, nonce, keep=False))
            ended, seen = 0, b""
            while ended < 2:
                piece = slot.channel.read(10)
                assert piece is not None, seen
                seen += piece[1]
                ended += not piece[1]
            assert f"{nonce} over".encode() in seen
            assert self.engine.wait(slot.container, 15) == 0
        finally:
            pool.retire(slot)
