"""An open slot: a container that waits for tests, and what watches and measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.measure.reused_slot import NOT_READ, CounterSnapshot

if TYPE_CHECKING:
    from orchestrator.engine.base import Inspection
    from orchestrator.engine.isolation.kernel_view import KernelView
    from orchestrator.engine.metering.exit_witness import ExitWitness
    from orchestrator.engine.metering.slot_meter import SlotMeter
    from orchestrator.engine.slots.init_process import InitProcessMonitor
    from orchestrator.engine.slots.slot import SlotContainer
    from orchestrator.measure.counters import Counters
    from orchestrator.model.evidence import Attestation
    from orchestrator.model.profiles import Profile


@dataclass(slots=True, eq=False)
class OpenSlot:
    """An open container and what watches it."""

    container: SlotContainer
    meter: SlotMeter
    profile: Profile
    engine_generation: int = 0
    """The engine's, when it was opened."""
    frozen: bool = False
    """Somebody had stopped it by its cgroup's freezer."""
    exit_witness: ExitWitness | None = None
    """None: the kernel's events cannot be heard here."""
    init_process: InitProcessMonitor | None = None
    """None: it takes one test only."""
    inspection: Inspection | None = None
    """While it was waiting for its first test, where the engine is on this machine."""
    kernel_view: KernelView | None = None
    """Of process 1, while it was waiting for its first test."""
    attestation: Attestation | None = None
    position: int = 0
    """Tests that were released in it."""
    floor_bytes: int | None = None
    """Charged after its first test."""
    limit_bytes: int = 0
    """Of its memory; 0: its profile's."""
    effective_limit_bytes: int | None = None
    """The same by the kernel."""
    uses_snapshots: bool = False
    """Its tests after the first are measured by looks between them."""
    snapshot: CounterSnapshot | None = None
    """The last one."""
    agent_read: Counters = NOT_READ
    """By the agent itself, after its last test and the cleaning that followed."""

    @property
    def charged_bytes(self) -> int | None:
        """Memory charged to it after its last test; None: that is not known."""
        return self.agent_read.memory_bytes

    @property
    def alive(self) -> bool:
        """The kernel says that it has not ended."""
        return self.init_process is not None and self.init_process.alive
