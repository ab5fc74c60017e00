"""The load beside a diagnosed test: other tests that repeat, or containers that use up CPU time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING

from orchestrator.coordinator.executor import AttemptRunner
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Network
from orchestrator.model.tests import Command, Test, TestId
from orchestrator.stop_flag import StopFlag, StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestrator.coordinator.run_folder import RunFolder
    from orchestrator.engine.slots.executor import LocalExecutor
    from orchestrator.model.profiles import Profile
    from orchestrator.model.results import Attempt
    from orchestrator.model.tests import Assignment

START_TIMEOUT_SECONDS = 15.0
"""The longest time to wait until the background load has started."""
RELEASE_SECONDS = 0.1
MAX_RECORDED_ATTEMPTS = 100
"""The number of attempts of a background load that are recorded."""
BURN_SECONDS = 3600.0
BURNER = Test(
    id=TestId(path=".orch/burner"), suite="", command=Command(argv=("/bin/sh", "-c", "while :; do :; done"))
)
"""A test that keeps one CPU busy until it is ended."""
_BURNER_BYTES = 32 << 20


def burner_profile(profile: Profile) -> Profile:
    """Return a profile with one CPU, little memory and no network in the image of the test."""
    limits = replace(
        profile.limits,
        cpus=1.0,
        memory_bytes=_BURNER_BYTES,
        timeout_seconds=BURN_SECONDS,
        tmpfs_bytes=1 << 20,
        outputs_bytes=1 << 20,
        shm_bytes=1 << 20,
    )
    return replace(profile, limits=limits, network=Network.NONE, capabilities=(), reuse=1, grace_seconds=0.1)


class BackgroundLoad:
    """Lanes beside those of the schedule, each of which repeats one test until the load is ended."""

    def __init__(self, executor: LocalExecutor, folder: RunFolder) -> None:
        self.attempts: list[Attempt] = []
        """The first attempts, at most `MAX_RECORDED_ATTEMPTS`. A test of 5 ms may run thousands of times."""
        self.errors: list[Exception] = []
        self._stop = StopFlag()
        self._executor = executor.sibling(stop=self._stop)
        self._execute = AttemptRunner(self._executor, folder, judge_budgets=False)

    @property
    def containers(self) -> tuple[int, int, int]:
        """The numbers of containers expected, created and removed."""
        tally = self._executor.tally
        return tally.expected, tally.created, tally.removed

    @contextmanager
    def running(self, makers: Sequence[Callable[[], Assignment]], *, stop: StopFlag) -> Iterator[None]:
        """Run the tests of each maker, one after another, in a thread per maker.

        All have started when the body begins. They are ended after the body, or soon after `stop` rises to
        TERMINATE.
        """
        end_listening = stop.listen(lambda: self._forward_stop(stop))
        self._forward_stop(stop)  # it may have risen before
        threads = [Thread(target=self._run, args=(make,), name="orch-background", daemon=True) for make in makers]
        try:
            for thread in threads:
                thread.start()
            self._wait_until_started(len(makers), stop)
            yield
        finally:
            self._stop.set(StopLevel.KILL, "the condition has ended")
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            self._executor.close()
            end_listening()

    def _forward_stop(self, stop: StopFlag) -> None:
        if stop.level >= StopLevel.TERMINATE:
            self._stop.set(stop.level, stop.reason)

    def _wait_until_started(self, count: int, stop: StopFlag) -> None:
        """Wait until each lane has its container, and `RELEASE_SECONDS` more for its test to start."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while self._executor.tally.created < count and not self.errors:
            if time.monotonic() > deadline or stop.wait(RELEASE_SECONDS / 2) is not StopLevel.RUN:
                return
        stop.wait(RELEASE_SECONDS)

    def _run(self, make: Callable[[], Assignment]) -> None:
        lane = self._execute.lane()
        try:
            following: Assignment | None = make()
            while following is not None:
                current, next_test = following, _NextTest(make, self._stop)
                attempt = lane.run(current, time.monotonic(), next_test.upcoming)
                if len(self.attempts) < MAX_RECORDED_ATTEMPTS:
                    self.attempts.append(attempt)
                # The next test may be in the container already, and must be run to be ended. After a failure of
                # the engine no further test is created.
                following = next_test.upcoming() if attempt.outcome is not Outcome.INFRA else next_test.made
        except Exception as error:  # noqa: BLE001 - the thread that waits for this one raises it
            self.errors.append(error)
        finally:
            lane.close()


class _NextTest:
    """Creates the next test of a lane at most once, and none after the load was ended."""

    def __init__(self, make: Callable[[], Assignment], stop: StopFlag) -> None:
        self._make = make
        self._stop = stop
        self.made: Assignment | None = None

    def upcoming(self) -> Assignment | None:
        """Return the next test, or None after the load was ended."""
        if self.made is None and self._stop.level is StopLevel.RUN:
            self.made = self._make()
        return self.made
