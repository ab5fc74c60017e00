"""If an item of the hardening is removed without orch's knowledge, attestation or the self-test detects it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.config.loader import load_config
from orchestrator.coordinator.session import seccomp_text
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.isolation.attestation import attest
from orchestrator.engine.isolation.hardening import ContainerContext
from orchestrator.engine.isolation.kernel_view import read_process
from orchestrator.engine.self_test.runner import check_profile
from orchestrator.engine.slots import container as slot_container
from orchestrator.errors import EngineError
from orchestrator.measure.sampler import Sampler
from orchestrator.model.outcomes import Outcome
from tests.docker.test_attestation_real import outcome_of
from tests.docker.test_slots_real import Bench
from tests.support.handmade import make_assignment, make_profile
from tests.support.mutations import EFFECTS, MORE_ENV, MUTATIONS, Mutation, mutated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.engine.base import Engine
    from orchestrator.engine.docker.http import EngineApi
    from orchestrator.engine.self_test.cis_benchmark import Check

pytestmark = pytest.mark.docker


class Changing:
    """An engine whose call that creates a container is changed."""

    def __init__(self, calls: EngineApi, mutation: Mutation) -> None:
        self._calls = calls
        self._mutation = mutation

    def call(self, doing: str, method: str, path: str, **more: Any) -> Any:
        if path.startswith("/containers/create"):
            more["body"] = mutated(more["body"], self._mutation)
        return self._calls.call(doing, method, path, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)


@pytest.fixture(scope="module")
def sampler() -> Iterator[Sampler]:
    with Sampler() as started:
        yield started


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    with closing(open_engine()) as opened:
        yield opened


def bench_on(engine: Engine, image: str, folder: Path, sampler: Sampler) -> Bench:
    """A run like a real one, with a hidden state folder and the built-in profile."""
    bench = Bench(engine, image, folder, sampler)
    state = folder / "project" / ".orch"
    for place in (state, folder / "project" / "elsewhere" / ".orch"):
        place.mkdir(parents=True)
    before = bench.executor.slots._context
    config = load_config(path=None, start=folder / "project", env={}, overrides={})
    bench.executor.slots._context = ContainerContext(
        project_root=before.project_root,
        state_dir=state,
        seccomp=seccomp_text(config),
        counters=before.counters,
    )
    return bench


def mismatches_without_agent(bench: Bench) -> tuple[str, ...]:
    """Return the differences that inspect and the kernel's files show; the container runs a harmless program."""
    engine = bench.engine
    spec = bench.executor.slots.spec(make_assignment("true"), streams_dir=None, cgroup_parent=None)
    container = engine.create(spec)
    try:
        engine.start(container)
        seen = engine.inspect(container)
        assert seen.pid is not None
        return attest(seen, asked=spec, begin="", info=engine.info, host_view=read_process(seen.pid)).mismatches
    finally:
        engine.remove(container)


def test_without_a_mutation_attestation_finds_no_difference(
    own_engine: Engine, busybox_image: str, tmp_path: Path, sampler: Sampler
) -> None:
    evidence = bench_on(own_engine, busybox_image, tmp_path, sampler).sh("true")
    assert evidence.attestation is not None
    assert evidence.attestation.mismatches == ()
    assert outcome_of(evidence) == (Outcome.PASSED, "")


ATTESTED = [mutation for mutation in MUTATIONS if mutation.item != MORE_ENV]


@pytest.mark.parametrize("mutation", ATTESTED, ids=lambda mutation: mutation.item)
def test_attestation_detects_each_mutation(
    mutation: Mutation,
    own_engine: Engine,
    busybox_image: str,
    tmp_path: Path,
    sampler: Sampler,
    record_property: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot_container, "READY_SECONDS", 5.0)  # for mutations with which the agent does not start
    monkeypatch.setattr(slot_container, "END_SECONDS", 3.0)  # for the container that is restarted again and again
    bench = bench_on(own_engine, busybox_image, tmp_path, sampler)
    own_engine._api = Changing(own_engine._api, mutation)  # type: ignore[attr-defined]
    began = time.monotonic()
    if not mutation.agent:
        red = mismatches_without_agent(bench)
        assert red
        assert any("namespace" in sentence or "PidMode" in sentence for sentence in red)
    else:
        evidence = bench.sh("true")
        outcome, message = outcome_of(evidence)
        assert outcome is Outcome.INFRA, message
        red = evidence.attestation.mismatches if evidence.attestation is not None else ()
        red = red or (message,)
    record_property("turned_red", " | ".join(red))
    print(f"RED {mutation.item}: {' | '.join(red)} ({time.monotonic() - began:.1f} s)")
    assert bench.containers() == []


def self_tested(engine: Engine, image: str, folder: Path, sampler: Sampler) -> tuple[Check, ...]:
    """Run all checks of a small profile, with a file in orch's own folder. The image is already prepared, because
    preparing it uses a container too, which would be changed.
    """
    bench = bench_on(engine, image, folder, sampler)
    (folder / "project" / ".orch" / "of-another-run").touch()
    try:
        return check_profile(bench.executor, make_profile(), run_id=bench.run_id, work_dir=bench.work)
    finally:
        assert bench.containers() == []


def test_without_a_mutation_the_self_test_proves_everything(
    own_engine: Engine, isolation_image: str, tmp_path: Path, sampler: Sampler
) -> None:
    checks = self_tested(own_engine, isolation_image, tmp_path, sampler)
    assert [check for check in checks if check.proven is False] == []
    assert {check.group for check in checks if check.proven} == set(range(1, 18))


@pytest.mark.parametrize("item", EFFECTS)
def test_the_self_test_detects_each_mutation_by_its_effect(
    item: str,
    own_engine: Engine,
    isolation_image: str,
    tmp_path: Path,
    sampler: Sampler,
    record_property: Any,
) -> None:
    (mutation,) = (one for one in MUTATIONS if one.item == item)
    own_engine._api = Changing(own_engine._api, mutation)  # type: ignore[attr-defined]
    try:
        checks = self_tested(own_engine, isolation_image, tmp_path, sampler)
    except EngineError as error:  # a container on this machine's network gets no test at all
        if item == "network: host" and "this machine's network" in error.message:
            return
        raise
    red = [f"{check.group} {check.check}: {check.observed}" for check in checks if check.proven is False]
    record_property("turned_red", " | ".join(red))
    print(f"EFFECT {item}: {' | '.join(red)}")
    assert EFFECTS[item] in {check.group for check in checks if check.proven is False}


def test_an_image_without_python_proves_nothing(
    own_engine: Engine, busybox_image: str, tmp_path: Path, sampler: Sampler
) -> None:
    bench = bench_on(own_engine, busybox_image, tmp_path, sampler)
    checks = check_profile(bench.executor, make_profile(), run_id=bench.run_id, work_dir=bench.work)
    red = [check for check in checks if check.proven is False]
    assert {check.group for check in red} == set(range(1, 18)) - {16}
    assert {check.reason for check in red} == {"the image has no python3, which the probes need"}
    assert bench.traces() == []
