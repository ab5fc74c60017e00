"""An open slot: a container whose agent waits for tests, with the objects that observe and measure it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.measure.reused_slot import NOT_READ, CounterSnapshot

if TYPE_CHECKING:
    from orchestrator.engine.base import Inspection
    from orchestrator.engine.isolation.kernel_view import KernelView
    from orchestrator.engine.metering.exit_witness import ExitWitness
    from orchestrator.engine.metering.slot_meter import SlotMeter
    from orchestrator.engine.slots.container import SlotContainer
    from orchestrator.engine.slots.init_process import InitProcessMonitor
    from orchestrator.engine.slots.session import Session
    from orchestrator.measure.counters import Counters
    from orchestrator.model.evidence import Attestation
    from orchestrator.model.profiles import Profile
    from orchestrator.model.tests import Assignment


@dataclass(slots=True, eq=False, kw_only=True)
class OpenSlot:
    """An open container with its session and its observers, and their state between tests."""

    container: SlotContainer
    session: Session
    meter: SlotMeter
    profile: Profile
    engine_generation: int
    """The engine's generation when the container was opened (see EngineAvailability)."""
    frozen: bool = False
    """True if the container's cgroup was found frozen by another program."""
    exit_witness: ExitWitness | None = None
    """The receiver of the kernel's process events; None if they cannot be received here."""
    init_process: InitProcessMonitor | None = None
    """The monitor of the container's process 1; None if the slot takes one test only."""
    inspection: Inspection | None = None
    """The engine's inspection while the container waited for its first test; None if the engine is remote."""
    kernel_view: KernelView | None = None
    """The kernel's view of process 1 while the agent waited for its first test; None if it cannot be read here."""
    attestation: Attestation | None = None
    """The comparison of the effective settings with the requested ones; None until it is made."""
    position: int = 0
    """The number of tests that were released in the slot."""
    floor_bytes: int | None = None
    """The memory charged to the container after its first test."""
    limit_bytes: int = 0
    """The memory limit that was requested; 0 stands for the profile's."""
    effective_limit_bytes: int | None = None
    """The memory limit in the kernel, once it was changed; None before or if it cannot be read."""
    uses_snapshots: bool = False
    """True if the slot's tests after the first are measured by counter snapshots taken between them."""
    snapshot: CounterSnapshot | None = None
    """The last counter snapshot."""
    agent_read: Counters = NOT_READ
    """The agent's counters after the last test, or after the cleaning that followed it."""

    @property
    def charged_bytes(self) -> int | None:
        """The memory charged to the container after its last test, in bytes; None if unknown."""
        return self.agent_read.memory_bytes

    @property
    def alive(self) -> bool:
        """True if the container's process 1 still runs, according to the kernel."""
        return self.init_process is not None and self.init_process.alive

    @property
    def has_room(self) -> bool:
        """True if the slot has taken fewer tests than its profile allows."""
        return self.init_process is not None and self.position < self.profile.reuse

    def may_take(self, assignment: Assignment) -> bool:
        """Return whether this test may run in the slot."""
        same = self.profile is assignment.profile or self.profile == assignment.profile
        return same and self.has_room and self.alive and assignment.attempt == 1
