"""The limits of a container are read back from the kernel, and an engine that sets others is detected."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.images.agent_shell import ORDINARY_SHELL, SHELL
from orchestrator.engine.isolation.hardening import START, STREAMS_DIR, agent_text
from orchestrator.measure.calibration import calibrate, corrected
from orchestrator.measure.sampler import Sampler
from orchestrator.model.outcomes import Outcome
from orchestrator.verdict.outcome import decide
from tests.docker.test_slots_real import Bench
from tests.support.handmade import make_assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.engine.base import ContainerSpec, Engine
    from orchestrator.model.evidence import Evidence

pytestmark = pytest.mark.docker
MIB = 1 << 20
READABLE = START.replace(SHELL, ORDINARY_SHELL)
"""Starts the agent in a shell that its user can read."""


class Disobedient:
    """The real engine, but it changes the container that was requested."""

    def __init__(self, engine: Engine, change: Callable[[ContainerSpec], ContainerSpec]) -> None:
        self._engine = engine
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def create(self, spec: ContainerSpec) -> str:
        return self._engine.create(self._change(spec))


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    with Sampler() as started:
        yield started


@pytest.fixture
def bench_of(tmp_path: Path, sampler: Sampler) -> Callable[[Any, str], Bench]:
    return lambda engine, image: Bench(engine, image, tmp_path, sampler)


def outcome_of(evidence: Evidence) -> tuple[Outcome, str]:
    command = make_assignment("sh").test.command
    decision = decide(evidence, command=command, cases=(), cases_problem=None)
    return decision.outcome, decision.message


@pytest.mark.parametrize("shell", ["busybox_image", "dash_image"])
@pytest.mark.parametrize("streams", ["fifos", "attach"])
def test_limits_are_the_kernels(
    engine: Engine,
    bench_of: Callable[[Any, str], Bench],
    shell: str,
    streams: str,
    request: pytest.FixtureRequest,
) -> None:
    request.getfixturevalue("monkeypatch").setenv("ORCH_STREAMS", streams)
    image = request.getfixturevalue(shell)
    bench = bench_of(engine, image)
    evidence = bench.sh("env", cpus=0.5, memory_bytes=48 * MIB + 4096, pids=33)
    found = evidence.attestation
    assert found is not None
    assert found.limits_from_kernel
    assert (found.effective_memory_bytes, found.effective_cpus) == (48 * MIB + 4096, 0.5)
    assert (found.effective_pids, found.image_id, found.network) == (33, image, "none")
    assert (found.capabilities_effective, found.capabilities_bounding) == ("0" * 16, "0" * 16)
    assert (found.no_new_privileges, found.seccomp_mode) == (True, 2)
    assert found.engine == f"{engine.info.name} {engine.info.version}"
    assert (found.kernel, found.cgroup_version) == (engine.info.kernel, engine.info.cgroup_version)
    assert outcome_of(evidence) == (Outcome.PASSED, "")
    assert b"ORCH_LIMITS" not in evidence.stdout.tail
    assert bench.traces() == []


def test_a_capability_given_back_is_in_the_bounding_set(
    engine: Engine, busybox_image: str, bench_of: Callable[[Any, str], Bench]
) -> None:
    evidence = bench_of(engine, busybox_image).sh("true", capabilities=("SYS_PTRACE",))
    assert evidence.attestation is not None
    assert evidence.attestation.mismatches == ()
    assert evidence.attestation.capabilities_bounding == f"{1 << 19:016x}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"memory_bytes": 96 * MIB}, f"memory limit: {64 * MIB} bytes asked, {96 * MIB} in the kernel"),
        ({"cpus": 0.75}, "CPU limit: 1 CPUs asked, 0.75 in the kernel"),
        ({"pids": 65}, "pids limit: 64 asked, 65 in the kernel"),
        ({"capabilities": ("NET_RAW",)}, "capabilities: none asked, effective 0 and bounding 2000 in the kernel"),
        ({"seccomp": "unconfined"}, "a seccomp profile asked, seccomp mode 0 in the kernel"),
        ({"user": "1002:1002"}, "user: 1001:1001 asked, 1002:1002 by the engine's inspect"),
        ({"read_only_root": False}, "read-only root: True asked, False by the engine's inspect"),
        ({"argv": ("-c", READABLE, agent_text(), STREAMS_DIR)}, "tests can read the memory of process 1"),
    ],
    ids=["memory", "cpus", "pids", "capabilities", "seccomp", "user", "root", "agent"],
)
def test_a_container_that_is_not_what_was_asked_for_is_infra(
    engine: Engine,
    busybox_image: str,
    bench_of: Callable[[Any, str], Bench],
    change: dict[str, Any],
    sentence: str,
) -> None:
    disobedient = Disobedient(engine, lambda spec: replace(spec, **change))
    evidence = bench_of(disobedient, busybox_image).sh("true")
    outcome, message = outcome_of(evidence)
    assert outcome is Outcome.INFRA
    assert message.startswith("the container differs from what was requested: ")
    assert evidence.attestation is not None
    assert any(sentence in one for one in evidence.attestation.mismatches)


def test_a_test_that_does_nothing_has_small_figures(
    engine: Engine, busybox_image: str, bench_of: Callable[[Any, str], Bench]
) -> None:
    bench = bench_of(engine, busybox_image)
    found = calibrate([bench.sh(":").usage for _ in range(3)])
    assert found is not None
    assert found.start_cpu_seconds is not None
    assert found.start_cpu_seconds > found.cpu_seconds  # the runtime's start needs more, and is stored separately
    usages = [corrected(bench.sh(":").usage, found) for _ in range(3)]
    usage = min(usages, key=lambda one: one.cpu_seconds or 0.0)  # a busy machine has the caches cold now and then
    assert usage.cpu_seconds is not None
    assert usage.cpu_seconds < 0.005
    assert usage.overheads["cpu_seconds"] == found.cpu_seconds
    assert usage.memory_peak_bytes is not None
    assert usage.memory_floor_bytes is not None
    if not usage.memory_peak_is_upper_bound:  # otherwise the kernel or this user cannot reset a peak
        assert usage.memory_peak_bytes - usage.memory_floor_bytes < MIB
    assert usage.disagreements == {}
