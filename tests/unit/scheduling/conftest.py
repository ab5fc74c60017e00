"""Builders of assignments and attempts, and an executor without containers."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from orchestrator.model.evidence import Evidence, OutputLog, Timings
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits, Network, Profile
from orchestrator.model.results import Attempt
from orchestrator.model.tests import Assignment, Command, History, Test, TestId
from orchestrator.model.usage import Usage
from orchestrator.model.violations import Severity, Violation, ViolationKind

MIB = 1024**2
STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


class Make:
    """Creates model values with defaults for everything that a test does not set."""

    def profile(self, name="standard", *, cpus=1.0, memory_mib=512, timeout_seconds=10.0, **other) -> Profile:
        limits = Limits(
            cpus=cpus,
            memory_bytes=memory_mib * MIB,
            timeout_seconds=timeout_seconds,
            tmpfs_bytes=100 * MIB,
            tmpfs_inodes=1000,
            outputs_bytes=MIB,
            shm_bytes=MIB,
            pids=128,
            nofile=1024,
            log_bytes=MIB,
        )
        return Profile(
            name=name, limits=limits, network=other.pop("network", Network.NONE), image="isolation", **other
        )

    def assignment(self, name="test_a", *, profile=None, **other) -> Assignment:
        command = Command(argv=("true",))
        return Assignment(
            run_id="run",
            test=Test(id=TestId(path=f"{name}.py"), suite="unit", command=command),
            profile=profile or self.profile(),
            reason="rule",
            **other,
        )

    def history(self, seconds, *, attempts=5, memory_mib=None, cpus=None) -> History:
        return History(
            attempts=attempts,
            duration_seconds_p95=seconds,
            memory_bytes_p95=None if memory_mib is None else memory_mib * MIB,
            cpus_p95=cpus,
            last_outcome=Outcome.PASSED,
        )

    def attempt(
        self,
        outcome=Outcome.PASSED,
        assignment=None,
        *,
        throttled_seconds=None,
        test_seconds=1.0,
        violations=(),
        queue_seconds=0.0,
    ) -> Attempt:
        log = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")
        return Attempt(
            id=str(uuid4()),
            assignment=assignment or self.assignment(),
            outcome=outcome,
            message="",
            exit_code=0,
            signal=None,
            evidence=Evidence(
                agent=None,
                engine=None,
                usage=Usage(throttled_seconds=throttled_seconds),
                stdout=log,
                stderr=log,
                timings=Timings(test_seconds=test_seconds, queue_seconds=queue_seconds),
                started_at=STARTED_AT,
            ),
            violations=tuple(
                Violation(
                    kind=ViolationKind(kind),
                    severity=Severity.WARNING,
                    measured=1.0,
                    limit=1.0,
                    unit="count",
                    message="",
                )
                for kind in violations
            ),
        )


@dataclass
class Executor:
    """Returns attempts from a script of outcomes for each test; tests that are not in the script pass.

    It records what it saw: all started tests, and which tests ran at the same time.
    """

    make: Make
    script: dict[str, list[Outcome]] = field(default_factory=dict)
    seconds: float = 0.0
    stop: object = None
    """A StopFlag to obey, as real executors do: at TERMINATE a running test is interrupted."""
    throttled_seconds: float | None = None
    started: list[Assignment] = field(default_factory=list)
    overlaps: list[tuple[Assignment, ...]] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[Assignment] = []

    def __call__(self, assignment: Assignment, queue_seconds: float) -> Attempt:
        with self._lock:
            self.started.append(assignment)
            self.queued.append(queue_seconds)
            self._running.append(assignment)
            self.overlaps.append(tuple(self._running))
        outcome = self._outcome(assignment)
        with self._lock:
            # by identity: two repetitions may be equal
            self._running = [other for other in self._running if other is not assignment]
        return self.make.attempt(outcome, assignment, throttled_seconds=self.throttled_seconds)

    def _outcome(self, assignment: Assignment) -> Outcome:
        if self.stop is not None and self.seconds:
            from orchestrator.stop_flag import StopLevel

            if self.stop.wait(self.seconds, above=StopLevel.DRAIN) > StopLevel.DRAIN:
                return Outcome.INTERRUPTED
        elif self.seconds:
            time.sleep(self.seconds)
        outcomes = self.script.get(assignment.test.id.path.removesuffix(".py"), [])
        return outcomes[assignment.attempt - 1] if assignment.attempt <= len(outcomes) else Outcome.PASSED

    @property
    def names(self) -> list[str]:
        return [a.test.id.path.removesuffix(".py") for a in self.started]


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture
def executor(make) -> Executor:
    return Executor(make)


@pytest.fixture(scope="session")
def new_executor(make):
    return lambda **given: Executor(make, **given)
