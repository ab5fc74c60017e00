"""Run a plan: hand tests to workers as the budget allows, and yield each test's final result.

Only the iterating thread makes decisions. It alone uses the jobs, the dispatcher and the events, so that no lock
is needed; a worker's thread only takes items from its queue and puts completions into another.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING

from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.cpu_estimates import CpuEstimates
from orchestrator.scheduling.dispatcher import Dispatcher, queued_test
from orchestrator.scheduling.events import Event, Finished, Policy, QueueDrained, Started
from orchestrator.scheduling.retry import FAILING, final_result, is_unconfirmed, next_attempt
from orchestrator.scheduling.wait_queue import longest_first
from orchestrator.scheduling.worker_threads import HEARTBEAT_SECONDS, Completion, WorkerPool
from orchestrator.stop_flag import StopFlag, StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator.model.profiles import Profile
    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.dispatcher import WorkerState
    from orchestrator.scheduling.wait_queue import QueuedTest
    from orchestrator.scheduling.worker_threads import AttemptFunction, Executor, WorkerBackend

__all__ = ["Budget", "Event", "Finished", "Policy", "Schedule", "Started", "schedule"]

HINTED = 8
"""The number of tests at the front of the queue that are named to the executor, so that it can prestart slots."""

LINGER_SECONDS = 0.03
LEAST_SECONDS = 2 * LINGER_SECONDS
"""While every worker has at least this much work queued ahead, completions are collected for `LINGER_SECONDS` and
handled in a batch: later ones find the CPU caches filled, and Python's lock is taken from the workers once for
all.
"""
QUEUE_DRAINED = QueueDrained()


def schedule(
    plan: Sequence[Assignment],
    execute: Executor | AttemptFunction,
    *,
    budget: Budget,
    policy: Policy,
    stop: StopFlag,
    profiles: Mapping[str, Profile],
    on_event: Callable[[Event], None],
) -> Schedule:
    """Return a schedule of the plan, longest tests first; iterate over it to get results as tests finish.

    `execute` is called in the workers' threads, at most `budget.slots` times at once. It returns an attempt
    whatever the engine does, and ends early when `stop` reaches TERMINATE. An exception from it ends the run and
    is raised by the iteration. `wait_queue` decides which test starts next, `dispatcher` in which worker, and
    `retry` what follows an attempt. `on_event` is called in the iterating thread.

    Leaving the iteration early, in any way, raises `stop` to TERMINATE and waits for the running tests.
    """
    return Schedule(
        plan,
        WorkerPool(execute),
        budget=budget,
        policy=policy,
        stop=stop,
        profiles=profiles,
        on_event=on_event,
    )


@dataclass(slots=True)
class _Job:
    """A test without a final result: its next assignment and its earlier attempts."""

    assignment: Assignment
    waits_since: float
    attempts: list[Attempt] = field(default_factory=list)


class Schedule:
    """One run of a plan, to be iterated once. Afterwards it says what was not run, and why."""

    def __init__(
        self,
        plan: Sequence[Assignment],
        backend: WorkerBackend,
        *,
        budget: Budget,
        policy: Policy,
        stop: StopFlag,
        profiles: Mapping[str, Profile],
        on_event: Callable[[Event], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Create a schedule; a simulation replaces `backend` (the worker threads) and `clock` (the real time)."""
        self._budget, self._policy, self._stop = budget, policy, stop
        self._profiles, self._on_event = profiles, on_event
        self._backend = backend
        self._clock = clock
        self._jobs = dict(enumerate(_Job(assignment, 0.0) for assignment in longest_first(plan)))
        """Rank -> the test, for each that has no result yet."""
        tests = (queued_test(rank, job.assignment) for rank, job in self._jobs.items())
        self._dispatcher = Dispatcher(budget, tests)
        self._cpu_estimates = CpuEstimates(plan)
        self._hinted: tuple[Assignment, ...] = ()
        self._draining = False
        self._failed = 0
        self._deadline: float | None = None
        self._iterated = False

    @property
    def not_run(self) -> tuple[str, ...]:
        """The ids of the tests without a result: those that a stop kept from starting, and those whose result was
        not taken because the iteration ended early. A repeated test is named once for each repetition.
        """
        return tuple(str(job.assignment.test.id) for job in self._jobs.values())

    @property
    def stopped_because(self) -> str | None:
        """The reason why the run was stopped, even if every test has run; None: it was not stopped."""
        level = self._stop.level
        return None if level is StopLevel.RUN else self._stop.reason or f"stopped ({level.name.lower()})"

    def __iter__(self) -> Iterator[TestResult]:
        """Return the iterator over the results.

        Nothing else refers to the generator, so that a `break` or an exception in the loop closes it at once.
        """
        if self._iterated:
            raise RuntimeError("a schedule can be iterated only once")
        self._iterated = True
        return self._results()

    def _results(self) -> Iterator[TestResult]:
        left_because: str | None = "its results were no longer wanted"
        try:
            self._begin()
            self._fill()
            while self._dispatcher.busy:
                if (result := self._step()) is not None:
                    yield result
                    del result  # an attempt holds up to 128 KiB of output tails
            yield from self._cut_short()
            left_because = None
        except KeyboardInterrupt:
            left_because = "interrupted"
            raise
        except Exception as error:
            left_because = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._end(left_because)

    def _begin(self) -> None:
        """Set the time from which all tests wait, and the deadline."""
        now = self._clock()
        for job in self._jobs.values():
            job.waits_since = now
        if self._policy.deadline_seconds is not None:
            self._deadline = now + self._policy.deadline_seconds

    def _fill(self) -> None:
        """Start all tests that may start now, and queue others ahead."""
        level = self._stop.level
        if level is not StopLevel.RUN and not self._draining:
            self._drain()
        if level >= StopLevel.TERMINATE:
            return
        now = self._clock()
        while self._stop.level is level:
            if (worker := self._dispatcher.start(now)) is not None:
                assert worker.current is not None  # noqa: S101 - it was just given one
                self._on_event(Started(assignment=self._jobs[worker.current.rank].assignment))
                self._submit(worker, worker.current)
            elif (worker := self._dispatcher.stealable()) is not None:
                self._requeue_pending(worker)
            else:
                break
        while self._stop.level is level and self._may_queue_ahead():
            if (worker := self._dispatcher.queue_ahead(now)) is None:
                break
            self._submit(worker, worker.queued_ahead[-1])
        self._hint()
        if self._stop.level is not level:
            self._fill()

    def _may_queue_ahead(self) -> bool:
        """Return whether another test may be queued ahead although all submitted tests may fail (--max-fail)."""
        limit = self._policy.max_fail
        if limit is None:
            return True
        submitted = sum(1 + len(worker.queued_ahead) for worker in self._dispatcher.busy.values())
        return self._failed + submitted < limit

    def _submit(self, worker: WorkerState, test: QueuedTest) -> None:
        job = self._jobs[test.rank]
        self._backend.submit(worker.number, test.rank, job.assignment, job.waits_since)

    def _requeue_pending(self, worker: WorkerState) -> None:
        """Put the queued-ahead tests that the worker has not started back into the queue."""
        current = None if worker.current is None else worker.current.rank
        self._dispatcher.requeue(worker, self._backend.cancel_pending(worker.number, current))

    def _drain(self) -> None:
        """Drop all queued tests, except failures that still have to be confirmed."""
        self._draining = True
        for worker in self._dispatcher.busy.values():
            if worker.queued_ahead:
                self._requeue_pending(worker)
        self._dispatcher.retain(lambda one: is_unconfirmed(self._jobs[one.rank].attempts))

    def _hint(self) -> None:
        """Name the next tests that need a fresh slot to the executor, so that it can prestart slots for them."""
        front = self._dispatcher.first(HINTED)
        hint = tuple(self._jobs[one.rank].assignment for one in front if one.slot_key is None)
        changed = len(hint) != len(self._hinted) or any(
            a is not b for a, b in zip(hint, self._hinted, strict=True)
        )
        if hint and changed:
            self._backend.prepare(hint)
        self._hinted = hint

    def _step(self) -> TestResult | None:
        """Wait for one completion and handle it; return the result if its test has a final one now."""
        done = self._next_completion()
        if done is None:
            return None
        worker = self._dispatcher.workers[done.worker]
        took = None if done.attempt is None else done.attempt.evidence.timings.test_seconds
        following = self._dispatcher.ended(worker, self._clock(), took)
        if done.attempt is None:
            assert done.error is not None  # noqa: S101 - for the type checker; Completion says it
            raise done.error
        result = self._handle_attempt(done.rank, done.attempt)
        if following is not None:
            self._on_event(Started(assignment=self._jobs[following.rank].assignment))
        self._fill()
        return result

    def _next_completion(self) -> Completion | None:
        """Wait for the next completion and return it; None: none arrived in time, or the deadline has passed."""
        if self._backend.drained:
            self._on_event(QUEUE_DRAINED)
        linger = (
            LINGER_SECONDS if self._policy.max_fail is None and self._dispatcher.has_work(LEAST_SECONDS) else 0.0
        )
        if self._deadline is None:
            return self._backend.next_completion(HEARTBEAT_SECONDS, linger)
        remaining = self._deadline - self._clock()
        if remaining > 0:
            return self._backend.next_completion(remaining, linger)
        self._deadline = None
        reason = f"the run's time limit of {self._policy.deadline_seconds:g} s has passed"
        self._stop.set(StopLevel.TERMINATE, reason)
        return None

    def _handle_attempt(self, rank: int, attempt: Attempt) -> TestResult | None:
        """Queue the test again, or return its final result."""
        job = self._jobs[rank]
        job.attempts.append(attempt)
        if self._cpu_estimates.note(attempt):
            self._dispatcher.update(self._with_estimate)
        following = None
        level = self._stop.level
        if level is StopLevel.RUN or (level is StopLevel.DRAIN and is_unconfirmed(job.attempts)):
            following = next_attempt(
                job.attempts,
                job.assignment,
                policy=self._policy,
                profiles=self._profiles,
                budget=self._budget,
            )
        self._on_event(Finished(attempt=attempt, will_retry=following is not None, next=following))
        if following is None:
            return self._finish(rank)
        job.assignment, job.waits_since = following, self._clock()
        self._dispatcher.add(queued_test(rank, following))
        return None

    def _with_estimate(self, test: QueuedTest) -> QueuedTest:
        need = self._cpu_estimates.need_of(self._jobs[test.rank].assignment)
        return test if need == test.need else replace(test, need=need)

    def _finish(self, rank: int) -> TestResult:
        result = final_result(self._jobs.pop(rank).attempts, self._policy)
        self._failed += result.outcome in FAILING
        limit = self._policy.max_fail
        if limit is not None and self._failed >= limit:
            self._stop.set(StopLevel.DRAIN, f"{self._failed} tests failed (--max-fail {limit})")
        return result

    def _cut_short(self) -> Iterator[TestResult]:
        """Yield the results of tests that were stopped between two attempts, from the attempts that they have."""
        for rank in [rank for rank, job in self._jobs.items() if job.attempts]:
            yield self._finish(rank)

    def _end(self, left_because: str | None) -> None:
        """Stop what still runs and wait for it. A Ctrl-C meanwhile raises the stop level to KILL, and is raised
        again once all threads have ended.
        """
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                if left_because is not None and self._jobs:
                    self._stop.set(StopLevel.TERMINATE, left_because)
                self._backend.close()
                break
            except KeyboardInterrupt as error:
                interrupt = error
                self._stop.set(StopLevel.KILL, "interrupted again")
        if interrupt is not None:
            raise interrupt
        if left_because is None and self._backend.error is not None:
            raise self._backend.error
