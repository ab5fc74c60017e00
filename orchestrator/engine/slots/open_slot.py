"""An open slot: a container whose agent waits for tests, and what observes and measures it."""

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
    """Whether its cgroup was found frozen by somebody else."""
    exit_witness: ExitWitness | None = None
    """None if the kernel's process events cannot be received here."""
    init_process: InitProcessMonitor | None = None
    """None if the slot takes one test only."""
    inspection: Inspection | None = None
    """The engine's inspection while the container waited for its first test; None if the engine is remote."""
    kernel_view: KernelView | None = None
    """The kernel's view of process 1 while it waited for its first test."""
    attestation: Attestation | None = None
    """The comparison of its effective settings with the requested ones, once it was made."""
    position: int = 0
    """The number of tests that were released in it."""
    floor_bytes: int | None = None
    """The memory charged to it after its first test."""
    limit_bytes: int = 0
    """The memory limit that was requested; 0 stands for its profile's."""
    effective_limit_bytes: int | None = None
    """The memory limit in the kernel."""
    uses_snapshots: bool = False
    """Whether its tests after the first are measured by counter snapshots taken between them."""
    snapshot: CounterSnapshot | None = None
    """The last counter snapshot."""
    agent_read: Counters = NOT_READ
    """What the agent read after its last test, and after the cleaning that followed."""

    @property
    def charged_bytes(self) -> int | None:
        """The memory charged to it after its last test, in bytes; None if that is not known."""
        return self.agent_read.memory_bytes

    @property
    def alive(self) -> bool:
        """Whether the kernel says that its process 1 still runs."""
        return self.init_process is not None and self.init_process.alive

    @property
    def has_room(self) -> bool:
        """Whether it can be used for another test, by the number of tests that it has had."""
        return self.init_process is not None and self.position < self.profile.reuse

    def may_take(self, assignment: Assignment) -> bool:
        """Return whether this test may run in it."""
        same = self.profile is assignment.profile or self.profile == assignment.profile
        return same and self.has_room and self.alive and assignment.attempt == 1
