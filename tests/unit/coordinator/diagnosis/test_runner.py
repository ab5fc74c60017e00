"""The conditions of a diagnosis on the engine in memory: what is beside what, with which limits, what is kept."""

from __future__ import annotations

import io
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.coordinator.diagnosis.background_load import MAX_RECORDED_ATTEMPTS
from orchestrator.coordinator.diagnosis.runner import DiagnosedTest, DiagnosisRunner
from orchestrator.coordinator.run_folder import RunFolder
from orchestrator.database.queries.runs import load_run
from orchestrator.database.store.store import Database
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.isolation.hardening import ContainerContext
from orchestrator.engine.labels import Owner
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.errors import EngineError
from orchestrator.measure.sampler import Sampler
from orchestrator.model.flakiness import Condition
from orchestrator.model.outcomes import Outcome
from orchestrator.stop_flag import StopFlag, StopLevel
from orchestrator.testing.agent import play_test
from orchestrator.testing.engine import FakeEngine
from tests.support.handmade import make_assignment
from tests.unit.database.database_examples import HOST, make_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.testing.agent import FakeTest

MIB = 1 << 20


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time: a container's play ends a moment after the container."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


class Place:
    """A laboratory whose tests are played by functions: argv -> its play. `running` counts those that run."""

    def __init__(self, folder: Path, sampler: Sampler, database: Database) -> None:
        self.plays: dict[str, Callable[[FakeTest], int | None]] = {"t": lambda test: test.sleep(0.01)}
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.stop = StopFlag()
        self.folder, self.sampler, self.database = folder, sampler, database
        self.executors: list[LocalExecutor] = []
        self._lock = threading.Lock()
        self.engine = FakeEngine(play_test(self._play))
        self.run = make_run(id=str(uuid.uuid4()))
        self.subject = DiagnosedTest(assignment=make_assignment("t", run_id=self.run.id, path="test/t.sh"))

    def _play(self, test: FakeTest) -> int | None:
        name = test.argv[0] if test.argv[0] in self.plays else "burner"
        with self._lock:
            self.running[name] = self.running.get(name, 0) + 1
            self.most[name] = max(self.most.get(name, 0), self.running[name])
        try:
            return self.plays[name](test) if name in self.plays else test.sleep(60)
        finally:
            with self._lock:
                self.running[name] -= 1

    def laboratory(self, *, runs: int = 5, **host: float) -> DiagnosisRunner:
        image = self.engine.import_rootfs(io.BytesIO(b"x"), "tiny:1", {})
        executor = LocalExecutor(
            SlotFactory(
                self.engine,
                availability=EngineAvailability(self.engine, self.stop),
                context=ContainerContext(project_root=self.folder, state_dir=None, seccomp="{}", counters=()),
                owner=Owner(run_id=self.run.id, token="b:1:1", work_dir=str(self.folder)),
                images={"tiny": image},
                sampler=self.sampler,
                work_dir=self.folder,
            ),
            stop=self.stop,
        )
        self.executors.append(executor)
        self.database.begin_run(self.run, [])
        return DiagnosisRunner(
            subject=self.subject,
            runs=runs,
            executor=executor,
            folder=RunFolder(self.folder / "state", self.run),
            database=self.database,
            host=replace(HOST, **host),
            stop=self.stop,
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Sampler() as sampler, Database.open(None, state_dir=tmp_path / "db") as database:
        made = Place(tmp_path, sampler, database)
        yield made
        for executor in made.executors:
            executor.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("orch-slot")]
        assert all(container.defect is None for container in made.engine.containers)
        assert wait_until(lambda: set(made.running.values()) <= {0}, 5), (
            "the background load ended with its condition"
        )


def test_what_runs_beside_it_under_each_condition(place: Place) -> None:
    rival = make_assignment("rival", path="test/rival.sh")
    place.subject = replace(place.subject, neighbours=(rival,))
    place.plays |= {"t": lambda test: test.sleep(0.03), "rival": lambda test: test.sleep(0.02)}
    results = {result.condition: result for result in place.laboratory(cpus=2).results()}
    assert set(results) == set(Condition)
    assert place.most["t"] == 4, "four copies: twice what two CPUs hold at one CPU each"
    assert place.most["burner"] == 2
    assert place.most["rival"] == 1
    assert results[Condition.NEIGHBOURS].detail == "test/rival.sh"
    judged = {c: (r.failed, r.total) for c, r in results.items() if c is not Condition.REUSED}
    assert judged == dict.fromkeys(judged, (0, 5))
    # this engine shares no files, so that no slot is used twice: nothing is said of it
    assert results[Condition.REUSED].skipped == "nothing could be judged"


def test_the_limits_that_stress_it(place: Place) -> None:
    limits: list[tuple[str, str]] = []

    def play(test: FakeTest) -> int:
        limits.append((test.env["ORCH_CPU_LIMIT"], test.env["ORCH_MEMORY_LIMIT"]))
        test.sleep(0.01)
        return int(float(test.env["ORCH_CPU_LIMIT"]) < 1)

    place.plays["t"] = play
    results = {result.condition: result for result in place.laboratory().results()}
    assert {c for c, r in results.items() if r.failed} == {Condition.HALF_CPUS}
    assert (results[Condition.HALF_CPUS].failed, results[Condition.HALF_CPUS].detail) == (5, "0.5 instead of 1")
    assert results[Condition.HALF_CPUS].ends == {Outcome.FAILED: 5}
    assert results[Condition.HALF_CPUS].message == "exit code 1"
    # no peak is known from this engine: half of the limit
    assert results[Condition.LITTLE_MEMORY].detail == "32M, half its limit, instead of 64M"
    assert sum(memory == str(32 * MIB) for _, memory in limits) == 5
    assert sum(cpus == "0.5" for cpus, _ in limits) == 5


def test_what_is_recorded_of_it(place: Place) -> None:
    list(place.laboratory().results())
    record = load_run(place.database, place.run.id)
    own = [a for a in record.attempts if a.reason != "diagnosis: background load"]
    background = [a for a in record.attempts if a.reason == "diagnosis: background load"]
    assert {a.reason for a in own} == {
        f"diagnosis: {condition.value}" for condition in Condition if condition is not Condition.NEIGHBOURS
    }
    assert {str(a.test_id) for a in record.attempts} == {"test/t.sh"}, "burners are no tests of the project"
    assert 3 <= len(background) <= MAX_RECORDED_ATTEMPTS
    repetitions = [a.repetition for a in record.attempts]
    assert len(set(repetitions)) == len(repetitions)


def test_what_cannot_be_tried_says_why(place: Place) -> None:
    results = {r.condition: r for r in place.laboratory(memory_bytes=100 * MIB).results()}
    assert results[Condition.ITSELF].skipped == "the memory of this machine does not hold two copies"
    assert results[Condition.NEIGHBOURS].skipped == "no recorded test ran beside it when it failed"


def test_its_limit_may_be_low_already(place: Place) -> None:
    place.subject = DiagnosedTest(assignment=make_assignment("t", run_id=place.run.id, memory_bytes=8 * MIB))
    results = {r.condition: r for r in place.laboratory().results()}
    assert results[Condition.LITTLE_MEMORY].skipped == "its limit is not higher than its need"


def test_a_stop_ends_the_company_at_once_and_the_rest_is_not_tried(place: Place) -> None:
    seen = []
    for result in place.laboratory(runs=8).results():
        seen.append(result.condition)
        if result.condition is Condition.ALONE:
            place.plays["t"] = lambda test: test.sleep(30)
            threading.Timer(0.5, place.stop.set, (StopLevel.TERMINATE, "enough")).start()
    assert seen == [Condition.ALONE, Condition.ITSELF]


def test_an_engine_that_fails_judges_nothing(place: Place) -> None:
    laboratory = place.laboratory()
    place.engine.fail("start", EngineError("no space left"), times=10_000)
    (result,) = laboratory.results()
    assert (result.total, result.low, result.high) == (0, 0.0, 1.0)
    assert "no space left" in result.skipped
