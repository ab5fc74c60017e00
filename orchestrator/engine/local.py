"""Runs one assignment on an engine and returns what was seen: the evidence, judged elsewhere.

A slot for each attempt for now; a slot that is kept gets its next test by another `Slot.run`. Trouble with the
engine is evidence too (`engine_failure`), never an exception: nothing is known then about the test.
"""

from __future__ import annotations

import copy
import itertools
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.engine import hardening, labels
from orchestrator.engine.attest import attest
from orchestrator.engine.meter import Meter
from orchestrator.engine.slot import PlainSlot, Slot
from orchestrator.errors import EngineError, NoShellError
from orchestrator.measure.calibration import corrected
from orchestrator.model import EngineState, Evidence, OutputLog, Timings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.engine.base import ContainerEngine, ContainerSpec, Inspection
    from orchestrator.engine.hardening import Surroundings
    from orchestrator.engine.labels import Owner
    from orchestrator.engine.reading import SlotRun
    from orchestrator.measure.calibration import Calibration
    from orchestrator.measure.sampler import Sampler
    from orchestrator.model import Assignment, EngineInfo
    from orchestrator.stopping import StopFlag

NO_AGENT = "the image has no shell for the agent, which reads this figure"
NO_OUTPUT = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")


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
    """Drives the containers of one run on one engine; `run` may be called by many threads."""

    def __init__(
        self,
        engine: ContainerEngine,
        *,
        around: Surroundings,
        owner: Owner,
        images: Mapping[str, str],
        sampler: Sampler,
        stop: StopFlag,
        work_dir: Path,
    ) -> None:
        """`images`: name -> pinned ID; `work_dir`: a folder of this run's own for the slots' FIFOs."""
        self._engine = engine
        self._around = around
        self._owner = owner
        self._images = images
        self._sampler = sampler
        self._stop = stop
        self._work_dir = work_dir
        self._numbers = itertools.count(1)
        self._fifos = can_share_fifos(engine.info)
        self._lock = threading.Lock()
        self._shell_less: set[str] = set()
        self.tally = Tally()
        self.calibrations: Mapping[str, Calibration] = {}
        """Image ID -> what a test that does nothing costs in it; figures are corrected by it."""

    def apart(self) -> LocalExecutor:
        """The same executor with a tally of its own, for containers that are no test's."""
        other = copy.copy(self)
        other.tally = Tally()
        return other

    def run(self, assignment: Assignment, queue_seconds: float, folder: Path) -> Evidence:
        """One attempt in a fresh slot. `folder` exists and receives stdout, stderr and outputs/."""
        number = next(self._numbers)
        meter = Meter(self._engine, self._sampler, self._owner.run_id, number)
        streams_dir = self._work_dir / f"slot-{number}" if self._fifos else None
        spec = self.spec(assignment, streams_dir=streams_dir, cgroup_parent=meter.parent)
        run: SlotRun | None = None
        inspection: Inspection | None = None
        failure: str | None = None
        plain = False
        began = datetime.now(UTC)
        self._count(expected=1)
        slot = self._slot(spec, assignment, streams_dir)
        try:
            try:
                slot.open()
            except NoShellError:
                # the container never ran; its place is taken by one that has the test as its own process
                slot.close()
                self._shell_less.add(spec.image_id)
                slot = self._slot(spec, assignment, streams_dir)
                slot.open()
            plain = isinstance(slot, PlainSlot)
            self._count(created=1)
            run = slot.run(
                assignment,
                keep=False,
                folder=folder,
                stop=self._stop,
                on_release=lambda: meter.begin(slot.container_id or "", assignment.key, running=plain),
                before_kill=meter.look,
                signal_outside=meter.signal,
            )
            inspection = slot.finish()
        except EngineError as error:
            failure = error.message
        except OSError as error:  # the disk under `folder` is full, or we may open no more files
            failure = f"keeping what the test wrote: {error}"
        finally:
            ended = time.monotonic()
            try:
                samples = meter.samples()
                used = meter.usage(run, samples, reason=failure or (NO_AGENT if plain else None))
                used = corrected(used, self._calibration(run, spec.image_id))
            finally:
                self._clear_up(slot, meter)
        return Evidence(
            agent=run.record if run else None,
            agent_expected=spec.image_id not in self._shell_less,
            engine=inspection.state if inspection else EngineState(status="gone") if run else None,
            timed_out=run is not None and run.timed_out,
            interrupted=run is not None and run.interrupted,
            engine_failure=failure,
            usage=used,
            samples=samples,
            stdout=run.stdout if run else NO_OUTPUT,
            stderr=run.stderr if run else NO_OUTPUT,
            outputs=run.outputs if run else (),
            outputs_notes=run.outputs_notes if run else (),
            leaked_objects=slot.leaked,
            timings=Timings(
                queue_seconds=queue_seconds,
                create_seconds=slot.create_seconds,
                start_seconds=slot.start_seconds,
                test_seconds=run.test_seconds if run else 0.0,
                teardown_seconds=time.monotonic() - ended,
            ),
            started_at=run.started_at if run else began,
            attestation=attest(
                inspection, asked=slot.spec, begin=run.begin_counters if run else "", info=self._engine.info
            )
            if inspection
            else None,
        )

    def _calibration(self, run: SlotRun | None, image_id: str) -> Calibration | None:
        """None also for a test whose agent did not come to its end: it did not cost what a null test's did."""
        return self.calibrations.get(image_id) if run is not None and run.record is not None else None

    def _slot(self, spec: ContainerSpec, assignment: Assignment, streams_dir: Path | None) -> Slot:
        if spec.image_id in self._shell_less:
            return PlainSlot(self._engine, hardening.without_agent(spec, assignment))
        return Slot(self._engine, spec, streams_dir=streams_dir)

    def spec(
        self, assignment: Assignment, *, streams_dir: Path | None, cgroup_parent: str | None
    ) -> ContainerSpec:
        """The settings of an assignment's container."""
        name = labels.container_name(assignment)
        return hardening.container_spec(
            assignment.profile,
            self._around,
            name=name,
            image_id=self._images[assignment.profile.image],
            labels=labels.labels_of(assignment, self._owner, name),
            streams_dir=streams_dir,
            cgroup_parent=cgroup_parent,
        )

    def _clear_up(self, slot: Slot, meter: Meter) -> None:
        """Remove container and cgroup. What cannot be removed now is found by the reaper, by its labels, and
        stands in the ledger as left; the test's own result is not touched by it.
        """
        try:
            slot.close()
            if slot.container_id is not None:
                self._count(removed=1)
        except (EngineError, OSError):
            return
        finally:
            meter.close()

    def _count(self, *, expected: int = 0, created: int = 0, removed: int = 0) -> None:
        with self._lock:
            self.tally.expected += expected
            self.tally.created += created
            self.tally.removed += removed
