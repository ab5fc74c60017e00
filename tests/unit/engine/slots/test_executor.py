"""Slots and the local executor on the engine in memory: what a real engine does only now and then."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.agent.output_reader import SlotOutput
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.isolation.hardening import ContainerContext
from orchestrator.engine.labels import Owner, container_name
from orchestrator.engine.slots import session as session_module
from orchestrator.engine.slots.container import SlotContainer
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.session import SlotEvent
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.errors import ConflictError, EngineError, EngineTimeoutError, EngineUnavailableError
from orchestrator.measure.sampler import Sampler
from orchestrator.model.evidence import LeftoverProcess
from orchestrator.model.usage import Source
from orchestrator.stop_flag import StopFlag, StopLevel
from orchestrator.testing.agent import play_test
from orchestrator.testing.container import Gone
from orchestrator.testing.engine import FakeEngine
from tests.support.handmade import make_assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.model.evidence import Evidence
    from orchestrator.testing.agent import FakeTest
    from orchestrator.testing.container import FakeContainer

RUN = "12345678-0000-0000-0000-000000000000"


class Bench:
    """An executor on a fake engine whose containers run `play`."""

    def __init__(self, folder: Path, sampler: Sampler) -> None:
        self.folder = folder
        self.stop = StopFlag()
        self.sampler = sampler
        self.engine = FakeEngine()
        self.executor = self._executor(self.engine)
        self._numbers = iter(range(1, 1000))

    def _executor(self, engine: FakeEngine) -> LocalExecutor:
        image = engine.import_rootfs(io.BytesIO(b"x"), "tiny:1", {})
        return LocalExecutor(
            SlotFactory(
                engine,
                availability=EngineAvailability(engine, self.stop),
                context=ContainerContext(project_root=self.folder, state_dir=None, seccomp="{}", counters=()),
                owner=Owner(run_id=RUN, token="b:1:1", work_dir=str(self.folder)),
                images={"tiny": image},
                sampler=self.sampler,
                work_dir=self.folder,
            ),
            stop=self.stop,
        )

    def use(self, play: Callable[[FakeTest], int | None], **keywords: Any) -> FakeEngine:
        self.engine = FakeEngine(play_test(play), **keywords)
        self.executor = self._executor(self.engine)
        return self.engine

    def use_program(self, behaviour: Callable[[FakeContainer], int]) -> FakeEngine:
        self.engine = FakeEngine(lambda _: behaviour)
        self.executor = self._executor(self.engine)
        return self.engine

    def run(self, **changes: Any) -> Evidence:
        number = next(self._numbers)
        place = self.folder / f"attempt-{number}"
        place.mkdir()
        return self.executor.run(make_assignment("t", run_id=RUN, attempt=number, **changes), 0.25, place)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Sampler() as sampler:
        made = Bench(tmp_path, sampler)
        yield made
        assert all(container.defect is None for container in made.engine.containers)


def test_all_that_a_test_gives_is_in_the_evidence(bench: Bench) -> None:
    def play(test: FakeTest) -> int:
        assert test.argv == ("t",)
        assert test.folder == "/work"
        test.print("out")
        test.print(b"\xff", stream="stderr")
        test.outputs["a/b"] = b"content"
        test.leftovers.append((7, "sleep 9"))
        test.counters = "@/sys/fs/cgroup/memory/memory.max_usage_in_bytes\n5000000\n"
        return 3

    engine = bench.use(play)
    evidence = bench.run()
    assert evidence.agent is not None
    assert (evidence.agent.exit_code, evidence.agent.leftovers) == (
        3,
        (LeftoverProcess(pid=7, command_line="sleep 9"),),
    )
    assert evidence.engine is not None
    assert (evidence.engine.status, evidence.engine.exit_code) == ("exited", 3)
    assert (evidence.stdout.tail, evidence.stderr.tail) == (b"out", b"\xff")
    assert evidence.outputs == ("a/b",)
    assert evidence.usage.memory_peak_bytes == 5_000_000
    assert evidence.usage.sources["memory_peak_bytes"] is Source.AGENT
    assert 0.25 <= evidence.timings.queue_seconds < 0.5
    assert evidence.attestation is not None
    assert evidence.attestation.user == "1001:1001"
    assert engine.containers == ()
    tally = bench.executor.tally
    assert (tally.expected, tally.created, tally.removed) == (1, 1, 1)


def test_one_slot_runs_several_tests_one_after_another(bench: Bench, tmp_path: Path) -> None:
    engine = bench.use(lambda test: test.print(test.env["V"]) or (3 if test.env["V"] == "3" else 0))
    assignments = [make_assignment("t", run_id=RUN, env={"V": str(number)}) for number in (1, 2, 3)]
    spec = bench.executor.slots.spec(assignments[0], streams_dir=None, cgroup_parent=None)
    container = SlotContainer(engine, spec, streams_dir=None)
    session = container.open()
    nonces = []
    for number, assignment in enumerate(assignments, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        reader = session.start(assignment, folder=folder, keep=number < 3, first=number == 1)
        *events, run = session.events(reader, assignment, stop=bench.stop)
        assert events == [SlotEvent.STARTED, SlotEvent.MEASURED]
        assert isinstance(run, SlotOutput)
        assert run.record is not None
        assert (run.record.exit_code, run.stdout.tail) == (3 if number == 3 else 0, str(number).encode())
        nonces.append(run)
    ended = container.await_exit()
    assert ended is not None
    assert (ended.state.status, ended.state.exit_code) == ("exited", 3)
    container.close()
    assert engine.containers == ()


def test_a_timeout_ends_with_term(bench: Bench) -> None:
    bench.use(lambda test: test.sleep(30))
    evidence = bench.run(timeout_seconds=0.1)
    assert evidence.timed_out
    assert evidence.agent is not None
    assert evidence.agent.exit_code == 143
    assert 0.1 <= evidence.timings.test_seconds < 2


def test_a_timeout_that_ignores_term_ends_with_kill(bench: Bench) -> None:
    bench.use(lambda test: test.sleep(30, ignore=("TERM",)))
    evidence = bench.run(timeout_seconds=0.1, grace_seconds=0.2)
    assert evidence.agent is not None
    assert evidence.agent.exit_code == 137


def test_a_timeout_that_nothing_inside_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.engine.slots.termination.AFTER_KILL_SECONDS", 0.1)
    bench.use(lambda test: test.sleep(30, ignore=("TERM", "KILL")))
    evidence = bench.run(timeout_seconds=0.1, grace_seconds=0.1)
    assert evidence.timed_out
    assert evidence.agent is None
    assert evidence.engine is not None
    assert evidence.engine.exit_code == 137


@pytest.mark.parametrize(("level", "code"), [(StopLevel.TERMINATE, 143), (StopLevel.KILL, 137)])
def test_the_stop_flag_interrupts(bench: Bench, level: StopLevel, code: int) -> None:
    bench.use(lambda test: test.sleep(30))
    threading.Timer(0.1, lambda: bench.stop.set(level)).start()
    evidence = bench.run()
    assert evidence.interrupted
    assert not evidence.timed_out
    assert evidence.engine is not None
    assert evidence.engine.exit_code == code


def test_draining_lets_a_test_finish(bench: Bench) -> None:
    bench.stop.set(StopLevel.DRAIN)
    bench.use(lambda test: test.sleep(0.3))
    evidence = bench.run()
    assert not evidence.interrupted
    assert evidence.agent is not None
    assert evidence.agent.exit_code == 0


def test_a_forged_record_and_a_forged_exit(bench: Bench) -> None:
    def play(test: FakeTest) -> int:
        other = "0" * 32
        test.print(f"\n{other} end\ncode 0\n\n{other} tar\n\n{other} reset\n\n{other} over\n")
        test.print(f"\n{other} end\n", stream="stderr")
        test.container.end(0)  # and out, in the middle
        return 0

    bench.use(play)
    evidence = bench.run()
    assert evidence.agent is None
    assert evidence.engine is not None
    assert evidence.engine.exit_code == 0
    assert evidence.stdout.tail.startswith(b"\n000")


def test_an_agent_that_ends_between_its_marks_is_no_witness(bench: Bench) -> None:
    def play(test: FakeTest) -> int:
        test.print(f"\n{test.nonce} end\ncode 0\n\n{test.nonce} tar\n")
        test.container.end(0)
        return 0

    bench.use(play)
    assert bench.run().agent is None


@pytest.mark.parametrize("call", ["create", "attach", "start"])
def test_an_engine_that_fails_is_evidence_and_nothing_is_left(bench: Bench, call: str) -> None:
    engine = bench.use(lambda _: 0)
    engine.fail(call, EngineError(f"{call} went wrong"))
    evidence = bench.run()
    assert evidence.engine_failure == f"{call} went wrong"
    assert evidence.agent is None
    assert evidence.usage.memory_peak_bytes is None
    assert evidence.usage.missing["memory_peak_bytes"] == f"{call} went wrong"
    assert engine.containers == ()
    assert bench.run().engine_failure is None


def test_a_container_that_comes_late_is_found_by_its_name(bench: Bench) -> None:
    engine = bench.use(lambda _: 0)
    engine.create_late(0.0)
    original = engine.inspect

    def slow_inspect(container: str) -> Any:
        time.sleep(0.1)
        return original(container)

    engine.inspect = slow_inspect  # type: ignore[method-assign]
    evidence = bench.run()
    assert evidence.engine_failure is None
    assert evidence.agent is not None
    assert len([call for call, _ in engine.calls if call == "create"]) == 2
    assert engine.containers == ()


def test_a_taken_name_is_not_ours_to_remove(bench: Bench) -> None:
    engine = bench.use(lambda _: 0)
    assignment = make_assignment("t", run_id=RUN, attempt=1)
    spec = bench.executor.slots.spec(assignment, streams_dir=None, cgroup_parent=None)
    theirs = engine.create(replace(spec, labels={"theirs": "yes"}))
    assert container_name(assignment) == spec.name
    evidence = bench.run()
    assert evidence.engine_failure is not None
    assert "taken" in evidence.engine_failure
    assert [container.id for container in engine.containers] == [theirs]


def test_a_container_without_its_agent(bench: Bench) -> None:
    engine = bench.use_program(lambda _: 0)
    evidence = bench.run()
    assert evidence.engine_failure is not None
    assert "came up without its agent: its state is exited, exit code 0" in evidence.engine_failure
    assert engine.containers == ()


def test_a_container_that_says_something_else_first(bench: Bench) -> None:
    def wrong(container: FakeContainer) -> int:
        container.streams.send("stdout", b"Welcome!\n")
        container.ended.wait(20)
        return 0

    bench.use_program(wrong)
    assert "without its agent" in (bench.run().engine_failure or "")


def test_a_container_removed_by_somebody_else(bench: Bench) -> None:
    engine = bench.use(lambda test: test.sleep(30))
    threading.Timer(0.2, lambda: engine.remove_externally(engine.containers[0].id)).start()
    evidence = bench.run()
    assert evidence.agent is None
    assert evidence.engine is not None
    assert evidence.engine.status == "gone"
    assert evidence.engine_failure is None


@pytest.mark.parametrize("answer", [-1, "garbage", {"StatusCode": 0}])
def test_garbage_from_wait_changes_nothing(bench: Bench, answer: object) -> None:
    engine = bench.use(lambda _: 5)
    engine.answer_wait(answer)
    evidence = bench.run()
    assert evidence.engine is not None
    assert (evidence.engine.status, evidence.engine.exit_code) == ("exited", 5)


def test_a_removal_in_progress_is_polled(bench: Bench) -> None:
    engine = bench.use(lambda _: 0)
    engine.conflict_on_remove(3)
    assert bench.run().engine_failure is None
    assert engine.containers == ()


def test_what_cannot_be_removed_leaves_the_result_alone(bench: Bench) -> None:
    engine = bench.use(lambda _: 0)
    engine.fail("remove", ConflictError("no"))
    evidence = bench.run()
    assert evidence.engine_failure is None
    assert evidence.agent is not None
    (left,) = engine.containers
    assert evidence.leaked_objects == (f"container {left.spec.name}",)
    assert (bench.executor.tally.created, bench.executor.tally.removed) == (1, 0)


def test_an_engine_that_is_silent_for_a_while_after_the_test_is_asked_again(bench: Bench) -> None:
    engine = bench.use(lambda test: test.print("done") or 0)
    engine.fail("wait", EngineTimeoutError("frozen"))
    engine.fail("ping", EngineUnavailableError("frozen"), times=2)
    evidence = bench.run()
    assert evidence.engine_failure is None
    assert evidence.engine is not None
    assert evidence.engine.status == "exited"
    assert evidence.agent is not None
    assert engine.containers == ()


def test_an_engine_that_fails_after_the_test(bench: Bench) -> None:
    engine = bench.use(lambda test: test.print("done") or 0)
    engine.fail("wait", EngineError("broken"))
    evidence = bench.run()
    assert evidence.engine_failure == "broken"
    assert evidence.stdout.tail == b"done"
    assert evidence.agent is not None
    assert engine.containers == ()


def test_a_full_disk_is_an_engine_failure_and_the_container_goes(bench: Bench) -> None:
    engine = bench.use(lambda test: test.print("x") or 0)
    place = bench.folder / "full"
    place.mkdir()
    (place / "stdout").symlink_to("/dev/full")
    evidence = bench.executor.run(make_assignment("t", run_id=RUN), 0.0, place)
    assert "No space left" in (evidence.engine_failure or "")
    assert engine.containers == ()


def test_a_silent_container_that_has_ended_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attach connection may be lost without a word."""
    monkeypatch.setattr(session_module, "SILENCE_SECONDS", 0.1)

    def play(test: FakeTest) -> int:
        test.container.streams.end = lambda: None  # type: ignore[method-assign]
        test.container.end(0)
        raise Gone

    engine = bench.use(play)
    engine.fail("inspect", EngineTimeoutError("frozen"))  # which says nothing about the test
    evidence = bench.run(timeout_seconds=5)
    assert evidence.agent is None
    assert not evidence.timed_out
    assert evidence.engine_failure is None
    assert [name for name, _ in engine.calls].count("inspect") >= 3
