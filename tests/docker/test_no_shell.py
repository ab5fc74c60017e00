"""Images without a shell: the test is the container's own process, and the result says that it has one witness."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.isolation.hardening import ContainerContext
from orchestrator.engine.labels import Owner, run_filter
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model.outcomes import Outcome
from orchestrator.stop_flag import StopFlag
from orchestrator.verdict.outcome import decide
from tests.support.handmade import OPEN_SECCOMP, make_assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.engine.base import Engine
    from orchestrator.model.evidence import Evidence

pytestmark = pytest.mark.docker


@pytest.fixture
def run(engine: Engine, shell_less_image: str, tmp_path: Path) -> Iterator[Callable[..., Evidence]]:
    run_id = str(uuid.uuid4())
    work, project = tmp_path / "work", tmp_path / "project"
    work.mkdir()
    project.mkdir()
    with Sampler() as sampler:
        executor = LocalExecutor(
            SlotFactory(
                engine,
                availability=EngineAvailability(engine, StopFlag()),
                context=ContainerContext(project_root=project, state_dir=None, seccomp=OPEN_SECCOMP, counters=()),
                owner=Owner(run_id=run_id, token=owner_token(), work_dir=str(work)),
                images={"tiny": shell_less_image},
                sampler=sampler,
                work_dir=work,
            ),
            stop=StopFlag(),
        )
        numbers = iter(range(1, 100))

        def once(*argv: str, **changes: object) -> Evidence:
            number = next(numbers)
            folder = tmp_path / f"attempt-{number}"
            folder.mkdir()
            assignment = make_assignment("/busybox", *argv, run_id=run_id, attempt=number, **changes)
            evidence = executor.run(assignment, 0.0, folder)
            decision = decide(evidence, command=assignment.test.command, cases=(), cases_problem=None)
            assert decision.witnesses == 1
            outcomes.append(decision.outcome)
            return evidence

        outcomes: list[Outcome] = []
        once.outcomes = outcomes  # type: ignore[attr-defined]
        yield once
    assert engine.find(run_filter(run_id)) == ()
    assert executor.tally.created == executor.tally.removed == executor.tally.expected


def test_a_pass_a_failure_and_a_timeout_with_one_witness(run: Callable[..., Evidence]) -> None:
    passed = run("echo", "hello")
    assert passed.agent is None
    assert not passed.agent_expected
    assert passed.engine is not None
    assert passed.engine.exit_code == 0
    assert passed.stdout.tail == b"hello\n"
    assert passed.usage.cpu_seconds is not None
    assert passed.usage.memory_peak_bytes is not None
    assert "no shell" in passed.usage.missing["oom_kills"]

    failed = run("ls", "/nowhere")
    assert b"nowhere" in failed.stderr.tail
    slept = run("sleep", "60", timeout_seconds=1.0)
    assert slept.timed_out
    assert run.outcomes == [Outcome.PASSED, Outcome.FAILED, Outcome.TIMEOUT]  # type: ignore[attr-defined]
