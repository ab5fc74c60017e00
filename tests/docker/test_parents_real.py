"""A slot's figures on any engine: cgroup v1 or v2, the cgroupfs or the systemd driver, as root, as an ordinary
user of the docker group, or rootless. `scripts/test-cgroup2` runs these tests in all setups of v2.
"""

from __future__ import annotations

import os
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine import labels
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.isolation.enforcement import unenforced
from orchestrator.engine.isolation.hardening import ContainerContext
from orchestrator.engine.metering import parent_cgroups
from orchestrator.engine.metering.parent_cgroups import ParentKind, parent_kind
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.measure import cgroups
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model.usage import Source
from orchestrator.stop_flag import StopFlag, StopLevel
from tests.support import said
from tests.support.cgroups import cgroups_named
from tests.support.handmade import OPEN_SECCOMP, make_assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.engine.base import Engine
    from orchestrator.model.evidence import Evidence

pytestmark = pytest.mark.docker
MIB = 1 << 20
BURN = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
FIGURES = ("cpu_seconds", "memory_peak_bytes", "pids_peak", "oom_kills")


class Bench:
    """A run of its own on the real engine."""

    def __init__(self, engine: Engine, image: str, folder: Path, sampler: Sampler) -> None:
        self.engine, self.folder, self.run_id = engine, folder, str(uuid.uuid4())
        self.stop = StopFlag()
        for name in ("project", "work"):
            (folder / name).mkdir()
        version = engine.info.cgroup_version
        self.executor = LocalExecutor(
            SlotFactory(
                engine,
                availability=EngineAvailability(engine, self.stop),
                context=ContainerContext(
                    project_root=folder / "project",
                    state_dir=None,
                    seccomp=OPEN_SECCOMP,
                    counters=cgroups.AGENT_FILES_V2 if version == 2 else cgroups.AGENT_FILES_V1,
                ),
                owner=labels.Owner(run_id=self.run_id, token=owner_token(), work_dir=str(folder / "work")),
                images={"tiny": image},
                sampler=sampler,
                work_dir=folder / "work",
            ),
            stop=self.stop,
        )
        self.count = 0

    def sh(self, text: str, *, once_said: Callable[[], object] | None = None, **changes: Any) -> Evidence:
        self.count += 1
        place = self.folder / f"attempt-{self.count}"
        place.mkdir()
        changes = {"timeout_seconds": 120.0, "run_id": self.run_id, "attempt": self.count, **changes}
        with nullcontext() if once_said is None else said.once_said(place / "stdout", once_said):
            return self.executor.run(make_assignment("sh", "-c", text, **changes), 0.0, place)


@pytest.fixture
def bench(engine: Engine, busybox_image: str, tmp_path: Path) -> Iterator[Bench]:
    with Sampler() as sampler:
        yield Bench(engine, busybox_image, tmp_path, sampler)


@pytest.fixture
def kind(engine: Engine) -> ParentKind:
    return parent_kind(engine.info)


def leased_left() -> list[str]:
    """Return this user's existing parent cgroups that are kept between runs, of either driver."""
    return sorted({path.name for path in cgroups_named(f"orch[-_]u{os.geteuid()}[-_]*")})


def check(evidence: Evidence, kind: ParentKind) -> None:
    """Check that the figures are complete and have the source that this kind of parent gives."""
    usage = evidence.usage
    assert evidence.engine_failure is None
    assert [name for name in FIGURES if getattr(usage, name) is None] == [], usage.missing
    # the difference of the agent's two readings is the test's alone; a parent counts the container's end too
    cpu_source = Source.AGENT if kind is ParentKind.NONE or evidence.agent is not None else Source.KERNEL
    if evidence.agent is not None:
        assert usage.sources["cpu_seconds"] is cpu_source
        if kind is not ParentKind.OWN:
            assert usage.sources["memory_peak_bytes"] is Source.AGENT


def test_limits_are_enforced_here(engine: Engine) -> None:
    assert unenforced(engine.info) == ()


def test_figures_of_a_pass_and_samples(bench: Bench, kind: ParentKind) -> None:
    evidence = bench.sh(f"{BURN}; x=$(head -c {12 * MIB} /dev/zero | tr '\\0' x); sleep 0.3")
    check(evidence, kind)
    usage = evidence.usage
    assert evidence.agent is not None
    assert evidence.agent.exit_code == 0
    assert usage.cpu_seconds is not None
    assert usage.cpu_seconds > 0.02
    assert usage.memory_peak_bytes is not None
    assert 12 * MIB <= usage.memory_peak_bytes <= 64 * MIB
    assert not usage.memory_peak_is_upper_bound
    assert usage.oom_kills == 0
    assert evidence.samples, "the container's own cgroup was not found"
    assert max(s.memory_bytes or 0 for s in evidence.samples) > MIB
    if bench.engine.info.cgroup_version == 2:
        assert usage.swap_peak_bytes == 0
        assert usage.throttled_periods is not None


def test_an_oom_killed_test(bench: Bench, kind: ParentKind) -> None:
    evidence = bench.sh("tail /dev/zero; exit 3", memory_bytes=32 * MIB)
    check(evidence, kind)
    assert evidence.usage.oom_kills == 1
    usage = evidence.usage
    assert usage.memory_charged_peak_bytes is not None
    assert usage.memory_peak_bytes is not None
    assert 31 * MIB <= usage.memory_charged_peak_bytes <= 36 * MIB
    assert 28 * MIB <= usage.memory_peak_bytes <= usage.memory_charged_peak_bytes  # the agent was there before it


def test_a_test_that_is_killed_still_has_its_figures(bench: Bench, kind: ParentKind) -> None:
    """The test ignores TERM, so its processes are killed, and its agent writes the end record. An engine that is
    slow to run something inside kills the whole container instead.
    """
    evidence = bench.sh(f"trap '' TERM; {BURN}; while :; do sleep 0.2; done", timeout_seconds=6.0)
    assert evidence.timed_out
    assert evidence.agent is None or evidence.agent.exit_code == 137
    check(evidence, kind)
    assert evidence.usage.cpu_seconds is not None
    assert evidence.usage.cpu_seconds > 0.02


def test_a_test_that_is_killed_with_its_agent_still_has_its_figures(bench: Bench, kind: ParentKind) -> None:
    """If a run is stopped at once, the engine kills the whole container, and there is no end record."""
    text = f"{BURN}; echo burnt; while :; do sleep 0.2; done"
    evidence = bench.sh(text, once_said=lambda: bench.stop.set(StopLevel.KILL))
    assert evidence.interrupted
    assert evidence.agent is None
    check(evidence, kind)
    assert evidence.usage.cpu_seconds is not None
    assert evidence.usage.cpu_seconds > 0.02


def test_the_next_test_is_not_charged_for_the_one_before(bench: Bench, kind: ParentKind) -> None:
    first = bench.sh(f"{BURN}; {BURN}; x=$(head -c {24 * MIB} /dev/zero | tr '\\0' x); (tail /dev/zero)")
    second = bench.sh("true")
    check(second, kind)
    assert first.usage.cpu_seconds is not None
    assert first.usage.memory_peak_bytes is not None
    assert second.usage.cpu_seconds is not None
    assert second.usage.memory_peak_bytes is not None
    assert first.usage.oom_kills == 1
    assert second.usage.oom_kills == 0
    assert second.usage.cpu_seconds < first.usage.cpu_seconds / 2
    assert second.usage.memory_peak_bytes < first.usage.memory_peak_bytes / 2
    if kind is ParentKind.LEASED:
        # only the cgroups of slots that ran at once remain: here there was one
        assert len(leased_left()) == 1, leased_left()
        assert not parent_cgroups.lease_folder().exists()


def test_nothing_is_left(bench: Bench, kind: ParentKind) -> None:
    before = leased_left()
    bench.sh("true")
    left = cgroups_named(f"orch[-_]{bench.run_id[:8]}*")
    assert left == []
    assert bench.engine.find(labels.run_filter(bench.run_id)) == ()
    if kind is ParentKind.LEASED and before:
        assert leased_left() == before
