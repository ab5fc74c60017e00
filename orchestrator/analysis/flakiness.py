"""What a flaky test's failures have in common against its passes, as far as chance does not explain it. Pure.

Each circumstance (a neighbour, a host, being throttled, …) is tested: yes or no by Fisher's exact test, figures by
the rank test of Mann and Whitney; the probabilities are corrected for their number. Below the stated level a cause
is named, else none: docs/design/analysis/flaky.md has the error rates. A circumstance may be a sign instead of the
cause: what comes along with it, is named with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.analysis.statistics import (
    effective_number,
    fisher,
    fisher_more,
    least_fisher,
    mann_whitney,
    stratified,
    stratified_ranks,
    wilson,
)
from orchestrator.model.flakiness import (
    MECHANISMS,
    MINIMUM_FAILURES,
    MINIMUM_PASSES,
    OTHER_TESTS,
    SYMPTOMS,
    Cause,
    Circumstance,
    Factor,
    FailureCounts,
    FlakinessFinding,
)
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestrator.model.flakiness import AttemptContext, FlakyTest

LEVEL = 0.01
"""Of the tests whose failures have no cause among the circumstances, at most this share is told one."""
MEMORY_NEAR = 0.9
"""Of the limit, as the violation memory-near has it."""
LEAST_RATES = 2.0
"""It fails at least so many times as often with the circumstance as without: with a thousand attempts chance rules
out differences that are none.
"""
LEAST_MEDIANS = 1.25
"""Likewise of figures, by their medians."""
LEAST_THROTTLED = 0.05
LEAST_CROWD = 0.5
"""Differences of medians that are too small to matter."""
_ALONE = 0.05
"""Others beside a test, on average, up to which it was alone: an overlap at its very beginning or end."""


def find(test: FlakyTest, *, level: float = LEVEL) -> FlakinessFinding:
    """The test's rate of failures and their causes. ValueError: no attempts."""
    attempts = test.attempts
    if not attempts:
        raise ValueError(f"{test.test_id} has no attempts")
    failed = sum(attempt.failed for attempt in attempts)
    low, high = wilson(failed, len(attempts))
    missing = max(MINIMUM_FAILURES - failed, MINIMUM_PASSES - (len(attempts) - failed), 0)
    tried = () if missing else _tests(attempts)
    return FlakinessFinding(
        test_id=test.test_id,
        failed=failed,
        total=len(attempts),
        low=low,
        high=high,
        ends=Counter(attempt.outcome for attempt in attempts if attempt.failed),
        missing=missing,
        tried=len({test.cause.of for test in tried}),
        causes=_beyond_chance(tried, level),
    )


def suspects(attempts: Sequence[AttemptContext], factor: Factor, *, at_most: int) -> tuple[str, ...]:
    """Neighbours (or predecessors) that are there no less often when the test fails, by their names, the most
    suspicious first. Not causes: chance may explain them. With no failure, those that are there most often.
    """
    masks = _AttemptMasks(attempts)
    marks = {c.subject: mask for c, mask in _yes_or_no(masks) if c.factor is factor}
    failed, total, bad = masks.bad.bit_count(), len(attempts), masks.bad
    ranked = []
    for name, mask in marks.items():
        with_, both = mask.bit_count(), (mask & bad).bit_count()
        if not failed or (both and both * total >= with_ * failed):
            ranked.append((fisher_more(both, with_, failed, total), -with_, name))
    return tuple(name for _, _, name in sorted(ranked)[:at_most])


# ---------------------------------------------------------------- the tests


@dataclass(frozen=True, slots=True)
class _Test:
    """A circumstance that differed between attempts, and what chance says of it in one of several ways."""

    cause: Cause
    """Its chance is not corrected yet."""
    least: float
    """The smallest chance that it could have had."""
    matters: bool
    """The difference is large enough to be worth a word."""


class _AttemptMasks:
    """A test's attempts, and which of them are compared with which: sets of them are numbers of a bit each.

    The attempts of a run share its luck: a busy night, a broken server. So runs are compared by the first attempt
    of each, and repetitions of a run by their first attempts, with each other only. A retry is made only after a
    failure: where luck is shared it fails more often for that alone. So it is compared only where it should fail
    less.
    """

    def __init__(self, attempts: Sequence[AttemptContext]) -> None:
        self.attempts = attempts
        self.every = (1 << len(attempts)) - 1
        self.bad = self.mask(lambda attempt: attempt.failed)
        self.first_of_run = self.retry = 0
        repetitions: dict[str, dict[int, int]] = defaultdict(dict)
        """Run -> repetition -> attempts seen of it."""
        self.by_run: dict[str, int] = defaultdict(int)
        """First attempts of each repetition."""
        for at, attempt in enumerate(attempts):
            bit, seen = 1 << at, repetitions[attempt.run_id]
            if not seen:
                self.first_of_run |= bit
            if attempt.repetition not in seen:
                self.by_run[attempt.run_id] |= bit
            elif seen[attempt.repetition] == 1 and attempt.repetition == next(iter(seen)):
                self.retry |= bit
            seen[attempt.repetition] = seen.get(attempt.repetition, 0) + 1

    def mask(self, there: Callable[[AttemptContext], bool]) -> int:
        """The attempts of which it is true."""
        return sum(1 << at for at, attempt in enumerate(self.attempts) if there(attempt))

    def among(self, mask: int) -> list[AttemptContext]:
        """The attempts of a set."""
        return [attempt for at, attempt in enumerate(self.attempts) if mask >> at & 1]

    def strata(self) -> list[int]:
        """Repetitions of each run that has several."""
        return [mask for mask in self.by_run.values() if mask.bit_count() > 1]


def _tests(attempts: Sequence[AttemptContext]) -> tuple[_Test, ...]:
    masks = _AttemptMasks(attempts)
    return (*_of_yes_or_no(masks), *_of_figures(masks))


def _beyond_chance(tried: Sequence[_Test], level: float) -> tuple[Cause, ...]:
    """Half of the level is for circumstances that name another test: there may be hundreds of these, and the few
    others should not have to be the clearer for it. Mechanisms first, then in the order of the chances before
    their correction, so that a neighbour comes before the crowd that it made.
    """
    families = [
        [test for test in tried if (test.cause.of.factor in OTHER_TESTS) is named] for named in (False, True)
    ]
    found: list[tuple[Cause, int]] = []
    for family in families:
        times = len(families) * effective_number((test.least for test in family), level / len(families))
        found += [(test.cause, times) for test in family if test.matters and test.cause.chance * times <= level]
    found.sort(key=lambda one: _order(one[0]))
    named: dict[Circumstance, Cause] = {}
    for cause, times in found:
        named.setdefault(cause.of, replace(cause, chance=cause.chance * times))
    return tuple(named.values())


def _order(cause: Cause) -> tuple[bool, bool, float, bool]:
    factor = cause.of.factor
    return factor in SYMPTOMS, factor not in MECHANISMS, float(f"{cause.chance:.2g}"), factor is Factor.CROWD


def _yes_or_no(masks: _AttemptMasks) -> Iterator[tuple[Circumstance, int]]:
    """Circumstances that are there or not, each with the attempts in which it was. The plain ones first: of those
    that always came together, the first is named.
    """
    attempts = masks.attempts
    if all(attempt.memory_ratio is not None for attempt in attempts):
        near = masks.mask(lambda t: t.memory_ratio is not None and t.memory_ratio >= MEMORY_NEAR)
        yield Circumstance(factor=Factor.MEMORY), near
    if all(attempt.others is not None for attempt in attempts):
        yield Circumstance(factor=Factor.PARALLEL), masks.mask(lambda t: (t.others or 0) > _ALONE)
    yield Circumstance(factor=Factor.REUSED), masks.mask(lambda t: t.slot_position > 1)
    yield Circumstance(factor=Factor.FORKED), masks.mask(lambda t: t.forked)
    named: dict[Circumstance, int] = defaultdict(int)
    for at, attempt in enumerate(attempts):
        for circumstance in _named(attempt):
            named[circumstance] |= 1 << at
    for circumstance in sorted(named, key=lambda c: (list(Factor).index(c.factor), c.subject)):
        yield circumstance, named[circumstance]


def _named(attempt: AttemptContext) -> Iterator[Circumstance]:
    yield Circumstance(factor=Factor.HOST, subject=attempt.host)
    yield Circumstance(factor=Factor.PROFILE, subject=attempt.profile)
    if attempt.after is not None:
        yield Circumstance(factor=Factor.AFTER, subject=attempt.after)
    for neighbour in attempt.neighbours:
        yield Circumstance(factor=Factor.NEIGHBOUR, subject=neighbour)


def _of_yes_or_no(masks: _AttemptMasks) -> Iterator[_Test]:
    together: dict[int, list[tuple[Circumstance, int]]] = defaultdict(list)
    for circumstance, mask in _yes_or_no(masks):
        if mask not in (0, masks.every):  # it was the same in all of them: nothing to compare
            together[min(mask, masks.every ^ mask)].append((circumstance, mask))
    for alike in together.values():
        yield from _of_one(alike, masks)


def _of_one(alike: Sequence[tuple[Circumstance, int]], masks: _AttemptMasks) -> Iterator[_Test]:
    """The tests for circumstances that were there in the same attempts, or in exactly the others."""
    bad = masks.bad
    (first, mask), *others = sorted(alike, key=lambda one: _rate(one[1], bad) < _rate(masks.every ^ one[1], bad))
    present = FailureCounts(failed=(mask & bad).bit_count(), total=mask.bit_count())
    absent = FailureCounts(failed=bad.bit_count() - present.failed, total=len(masks.attempts) - present.total)
    low, high = sorted((present.rate, absent.rate))
    for chance, least in _chances(mask if present.rate >= absent.rate else masks.every ^ mask, masks):
        cause = Cause(
            of=first,
            chance=chance,
            present=present,
            absent=absent,
            together_with=tuple(circumstance for circumstance, _ in others),
        )
        yield _Test(cause, least, matters=high >= LEAST_RATES * low)


def _rate(mask: int, bad: int) -> float:
    return (mask & bad).bit_count() / mask.bit_count()


def _chances(worse: int, masks: _AttemptMasks) -> Iterator[tuple[float, float]]:
    """Chances, each with the least that was possible, of more failures among the `worse` attempts: by the first
    attempts of runs, by these and retries that are not among the worse, by repetitions within runs.
    """
    firsts, bad = masks.first_of_run, masks.bad
    for units, one_sided in ((firsts, False), (firsts | (masks.retry & ~worse), True)):
        if one_sided and units == firsts:
            continue
        total, failed = units.bit_count(), (units & bad).bit_count()
        with_, both = (units & worse).bit_count(), (units & worse & bad).bit_count()
        if one_sided:
            most = min(with_, failed)
            # twice: which attempts are the worse was seen in the data
            least = min(2 * fisher_more(most, with_, failed, total), 1.0)
            yield min(2 * fisher_more(both, with_, failed, total), 1.0), least
        elif both * total >= with_ * failed:  # in the same direction as over all attempts
            yield fisher(both, with_, failed, total), least_fisher(with_, failed, total)
    strata = [(s.bit_count(), (s & worse).bit_count(), (s & bad).bit_count()) for s in masks.strata()]
    both = sum((s & worse & bad).bit_count() for s in masks.strata())
    if both >= sum(with_ * failed / total for total, with_, failed in strata) and strata:
        yield stratified(strata, both)


def _of_figures(masks: _AttemptMasks) -> Iterator[_Test]:
    yield from _rank_tests(Factor.THROTTLED, masks, lambda t: t.throttled_ratio, LEAST_THROTTLED)
    yield from _rank_tests(Factor.CROWD, masks, lambda t: t.others, LEAST_CROWD)
    # what timed out has the length of its limit
    yield from _rank_tests(
        Factor.DURATION,
        masks,
        lambda t: None if t.outcome is Outcome.TIMEOUT else t.duration_seconds,
        0.0,
    )


def _rank_tests(
    factor: Factor, masks: _AttemptMasks, figure: Callable[[AttemptContext], float | None], least: float
) -> Iterator[_Test]:
    bad, good = _sides(masks.attempts, figure)
    if len(bad) < MINIMUM_FAILURES or len(good) < MINIMUM_PASSES or len({*bad, *good}) == 1:
        return
    failed_median, passed_median = median(bad), median(good)
    low, high = sorted((failed_median, passed_median))
    firsts = _sides(masks.among(masks.first_of_run), figure)
    chances = [mann_whitney(*firsts)] if all(firsts) else []
    if strata := [_sides(masks.among(mask), figure) for mask in masks.strata()]:
        chances.append(stratified_ranks(strata))
    for chance in chances:
        cause = Cause(
            of=Circumstance(factor=factor),
            chance=chance,
            failed_median=failed_median,
            passed_median=passed_median,
        )
        yield _Test(cause, 0.0, matters=high >= LEAST_MEDIANS * low and high - low >= least)


def _sides(
    attempts: Sequence[AttemptContext], figure: Callable[[AttemptContext], float | None]
) -> tuple[list[float], list[float]]:
    """The figures of failures and of passes, as far as they were measured."""
    known = [(attempt.failed, value) for attempt in attempts if (value := figure(attempt)) is not None]
    return [value for failed, value in known if failed], [value for failed, value in known if not failed]
