"""Runs a plan: hands tests to lanes as the budget allows, and yields each test's final result.

One thread decides: the one that iterates. It alone touches the jobs, the dispatch and the events, so there is no
lock; each lane's thread only takes orders from its queue and answers on another.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING

from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.cpu_estimates import Learned
from orchestrator.scheduling.dispatcher import Dispatch, waiting_of
from orchestrator.scheduling.events import Event, Finished, Idle, Policy, Started
from orchestrator.scheduling.retry import FAILING, follow_up, is_unconfirmed, settle
from orchestrator.scheduling.wait_queue import order
from orchestrator.scheduling.worker_threads import HEARTBEAT_SECONDS, Done, Workers
from orchestrator.stop_flag import StopFlag, StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator.model.profiles import Profile
    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.dispatcher import LaneState
    from orchestrator.scheduling.wait_queue import Waiting
    from orchestrator.scheduling.worker_threads import Call, Execute, Hands

__all__ = ["Budget", "Event", "Finished", "Policy", "Schedule", "Started", "schedule"]

HINTED = 8
"""So many tests at the front of the line are named to the executor, so that it can start slots ahead."""

LINGER_SECONDS = 0.03
LEAST_SECONDS = 2 * LINGER_SECONDS
"""While every lane has work for so long, answers are left to gather: what handles several one after another finds
the caches filled, and takes Python's lock from the lanes once and not for each.
"""
IDLE = Idle()


def schedule(
    plan: Sequence[Assignment],
    execute: Execute | Call,
    *,
    budget: Budget,
    policy: Policy,
    stop: StopFlag,
    profiles: Mapping[str, Profile],
    on_event: Callable[[Event], None],
) -> Schedule:
    """Run the plan, longest tests first; iterate over what this returns to get results as tests finish.

    `execute` is called in the lanes' threads, at most `budget.slots` at a time. It answers with an attempt
    whatever the engine does, and ends early when `stop` reaches TERMINATE; any exception out of it stops the
    run and comes out of the iteration. Which test starts next is said in `line`, where in `dispatch`, what an
    attempt's end leads to in `settle`. `on_event` is called in the thread that iterates.

    Leaving the iteration early, by whatever way, raises `stop` to TERMINATE and waits for what runs.
    """
    return Schedule(
        plan,
        Workers(execute),
        budget=budget,
        policy=policy,
        stop=stop,
        profiles=profiles,
        on_event=on_event,
    )


@dataclass(slots=True)
class _Job:
    """A test on its way: what is tried next, and what came of earlier tries."""

    assignment: Assignment
    waits_since: float
    attempts: list[Attempt] = field(default_factory=list)


class Schedule:
    """One pass over a plan; iterate it once. What was not run, and why, can be read afterwards."""

    def __init__(
        self,
        plan: Sequence[Assignment],
        workers: Hands,
        *,
        budget: Budget,
        policy: Policy,
        stop: StopFlag,
        profiles: Mapping[str, Profile],
        on_event: Callable[[Event], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`workers` and `clock` can be others than threads and the real time: a simulation's."""
        self._budget, self._policy, self._stop = budget, policy, stop
        self._profiles, self._on_event = profiles, on_event
        self._workers = workers
        self._clock = clock
        self._jobs = dict(enumerate(_Job(assignment, 0.0) for assignment in order(plan)))
        """Rank -> each test that has no result yet."""
        waiting = (waiting_of(rank, job.assignment) for rank, job in self._jobs.items())
        self._dispatch = Dispatch(budget, waiting)
        self._learned = Learned(plan)
        self._hinted: tuple[Assignment, ...] = ()
        self._draining = False
        self._failed = 0
        self._deadline: float | None = None
        self._iterated = False

    @property
    def not_run(self) -> tuple[str, ...]:
        """Ids of the tests that have no result (yet): those that a stop kept from starting, and those whose
        result nobody took because the iteration was left. A repeated test is named once for each repetition.
        """
        return tuple(str(job.assignment.test.id) for job in self._jobs.values())

    @property
    def stopped_because(self) -> str | None:
        """Why the run was stopped, also where that kept nothing from running; None: it was not."""
        level = self._stop.level
        return None if level is StopLevel.RUN else self._stop.reason or f"stopped ({level.name.lower()})"

    def __iter__(self) -> Iterator[TestResult]:
        """The results. The generator is held by nobody else, so a `break` or an exception in the loop over it
        closes it at once.
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
            while self._dispatch.busy:
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
        """Start the clocks."""
        now = self._clock()
        for job in self._jobs.values():
            job.waits_since = now
        if self._policy.deadline_seconds is not None:
            self._deadline = now + self._policy.deadline_seconds

    def _fill(self) -> None:
        """Start what may start, and order what follows."""
        level = self._stop.level
        if level is not StopLevel.RUN and not self._draining:
            self._drain()
        if level >= StopLevel.TERMINATE:
            return
        now = self._clock()
        while self._stop.level is level:
            if (lane := self._dispatch.start(now)) is not None:
                assert lane.current is not None  # noqa: S101 - it was just given one
                self._on_event(Started(assignment=self._jobs[lane.current.rank].assignment))
                self._order(lane, lane.current)
            elif (lane := self._dispatch.stranded()) is not None:
                self._take_back(lane)
            else:
                break
        while self._stop.level is level and (lane := self._dispatch.follow(now)) is not None:
            self._order(lane, lane.followers[-1])
        self._hint()
        if self._stop.level is not level:
            self._fill()

    def _order(self, lane: LaneState, waiting: Waiting) -> None:
        job = self._jobs[waiting.rank]
        self._workers.order(lane.number, waiting.rank, job.assignment, job.waits_since)

    def _take_back(self, lane: LaneState) -> None:
        """Put the lane's followers in line again, as far as it has not begun them."""
        current = None if lane.current is None else lane.current.rank
        self._dispatch.put_back(lane, self._workers.take_back(lane.number, current))

    def _drain(self) -> None:
        """Start nothing new. Only what is half done is still finished: a failure that awaits its confirmation."""
        self._draining = True
        for lane in self._dispatch.busy.values():
            if lane.followers:
                self._take_back(lane)
        self._dispatch.keep(lambda one: is_unconfirmed(self._jobs[one.rank].attempts))

    def _hint(self) -> None:
        """Name the next few to the executor, where it can start slots for them ahead."""
        front = self._dispatch.first(HINTED)
        hint = tuple(self._jobs[one.rank].assignment for one in front if one.slot is None)
        changed = len(hint) != len(self._hinted) or any(
            a is not b for a, b in zip(hint, self._hinted, strict=True)
        )
        if hint and changed:
            self._workers.prepare(hint)
        self._hinted = hint

    def _step(self) -> TestResult | None:
        """Wait for one answer, act on it; the result if its test is done now."""
        done = self._answer()
        if done is None:
            return None
        lane = self._dispatch.lanes[done.lane]
        took = None if done.attempt is None else done.attempt.evidence.timings.test_seconds
        follower = self._dispatch.ended(lane, self._clock(), took)
        if done.attempt is None:
            assert done.error is not None  # noqa: S101 - for the type checker; Done says it
            raise done.error
        result = self._judge(done.rank, done.attempt)
        if follower is not None:
            self._on_event(Started(assignment=self._jobs[follower.rank].assignment))
        self._fill()
        return result

    def _answer(self) -> Done | None:
        """The next answer of a worker; None: nothing yet, or the deadline has passed."""
        if self._workers.idle:
            self._on_event(IDLE)
        linger = (
            LINGER_SECONDS if self._policy.max_fail is None and self._dispatch.has_work(LEAST_SECONDS) else 0.0
        )
        if self._deadline is None:
            return self._workers.answer(HEARTBEAT_SECONDS, linger)
        remaining = self._deadline - self._clock()
        if remaining > 0:
            return self._workers.answer(remaining, linger)
        self._deadline = None
        reason = f"the run's time limit of {self._policy.deadline_seconds:g} s has passed"
        self._stop.set(StopLevel.TERMINATE, reason)
        return None

    def _judge(self, rank: int, attempt: Attempt) -> TestResult | None:
        """Line the test up again, or make its result."""
        job = self._jobs[rank]
        job.attempts.append(attempt)
        if self._learned.note(attempt):
            self._dispatch.renew(self._renewed)
        following = None
        level = self._stop.level
        if level is StopLevel.RUN or (level is StopLevel.DRAIN and is_unconfirmed(job.attempts)):
            following = follow_up(
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
        self._dispatch.add(waiting_of(rank, following))
        return None

    def _renewed(self, waiting: Waiting) -> Waiting:
        need = self._learned.need_of(self._jobs[waiting.rank].assignment)
        return waiting if need == waiting.need else replace(waiting, need=need)

    def _finish(self, rank: int) -> TestResult:
        result = settle(self._jobs.pop(rank).attempts, self._policy)
        self._failed += result.outcome in FAILING
        limit = self._policy.max_fail
        if limit is not None and self._failed >= limit:
            self._stop.set(StopLevel.DRAIN, f"{self._failed} tests failed (--max-fail {limit})")
        return result

    def _cut_short(self) -> Iterator[TestResult]:
        """Results of tests that a stop met between two attempts: what is known of them is not thrown away."""
        for rank in [rank for rank, job in self._jobs.items() if job.attempts]:
            yield self._finish(rank)

    def _end(self, left_because: str | None) -> None:
        """End and await what still runs. A Ctrl-C meanwhile, wherever it strikes, makes it more urgent, and
        is raised once all threads are gone.
        """
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                if left_because is not None and self._jobs:
                    self._stop.set(StopLevel.TERMINATE, left_because)
                self._workers.close()
                break
            except KeyboardInterrupt as error:
                interrupt = error
                self._stop.set(StopLevel.KILL, "interrupted again")
        if interrupt is not None:
            raise interrupt
        if left_because is None and self._workers.error is not None:
            raise self._workers.error
