"""Find the circumstances that distinguish a flaky test's failures from its passes significantly. Pure computation.

Each circumstance (a neighbour, a host, throttling, …) is tested: binary ones by Fisher's exact test, numeric ones
by the rank test of Mann and Whitney. The p-values are corrected for the number of tests, and a circumstance is
named as a cause only below the significance level; docs/design/analysis/flaky.md has the measured error rates. A
circumstance may be a sign of the true cause, so those that always occurred together with it are named too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.analysis.statistics import (
    fisher,
    fisher_minimum,
    fisher_one_sided,
    mann_whitney,
    stratified_fisher,
    tarone_factor,
    van_elteren,
    wilson_interval,
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
"""Significance level: the largest share of tests that get a cause although no circumstance is one."""
MEMORY_NEAR = 0.9
"""Share of the memory limit from which on memory counts as near its limit, as for the violation memory-near."""
MINIMUM_RATE_RATIO = 2.0
"""Smallest ratio of the failure rates with and without a circumstance that makes it a cause. With a thousand
attempts, differences that do not matter are significant too.
"""
MINIMUM_MEDIAN_RATIO = 1.25
"""Smallest ratio of the medians of failures and passes that makes a numeric circumstance a cause."""
MINIMUM_THROTTLED_DIFFERENCE = 0.05
MINIMUM_CROWD_DIFFERENCE = 0.5
"""Smallest differences of the medians (ratio of throttled time, number of other tests) that matter."""
_ALONE = 0.05
"""Largest average number of other tests with which a test counts as alone: they overlapped its start or end."""


def find_causes(test: FlakyTest, *, level: float = LEVEL) -> FlakinessFinding:
    """Return the failure rate of a test and the causes of its failures. Raises ValueError without attempts."""
    attempts = test.attempts
    if not attempts:
        raise ValueError(f"{test.test_id} has no attempts")
    failed = sum(attempt.failed for attempt in attempts)
    low, high = wilson_interval(failed, len(attempts))
    missing = max(MINIMUM_FAILURES - failed, MINIMUM_PASSES - (len(attempts) - failed), 0)
    tried = () if missing else _factor_tests(attempts)
    return FlakinessFinding(
        test_id=test.test_id,
        failed=failed,
        total=len(attempts),
        low=low,
        high=high,
        ends=Counter(attempt.outcome for attempt in attempts if attempt.failed),
        missing=missing,
        tried=len({test.cause.of for test in tried}),
        causes=_significant_causes(tried, level),
    )


def suspects(attempts: Sequence[AttemptContext], factor: Factor, *, at_most: int) -> tuple[str, ...]:
    """Return the names of at most `at_most` neighbours (or predecessors) with which the test fails at least as
    often as overall, smallest p-value first.

    They need not be significant. If the test never failed, they are the ones that were there most often.
    """
    masks = _AttemptMasks(attempts)
    marks = {c.subject: mask for c, mask in _binary_circumstances(masks) if c.factor is factor}
    failed, total, bad = masks.bad.bit_count(), len(attempts), masks.bad
    ranked = []
    for name, mask in marks.items():
        with_, both = mask.bit_count(), (mask & bad).bit_count()
        if not failed or (both and both * total >= with_ * failed):
            ranked.append((fisher_one_sided(both, with_, failed, total), -with_, name))
    return tuple(name for _, _, name in sorted(ranked)[:at_most])


# ---------------------------------------------------------------- the tests


@dataclass(frozen=True, slots=True)
class _FactorTest:
    """One statistical test of a circumstance that differed between attempts. A circumstance may have several."""

    cause: Cause
    """The cause to report if the test is significant; its `chance` is the p-value, not yet corrected."""
    least: float
    """The smallest p-value that is possible with these numbers of attempts."""
    matters: bool
    """True if the difference is large enough to be reported."""


class _AttemptMasks:
    """Sets of a test's attempts as bit masks (bit n is attempt n), and the choice of attempts that are comparable.

    The attempts of one run are not independent: they share a busy night or a broken server. So runs are compared
    by the first attempt of each, and the repetitions of one run only with each other, by their first attempts. A
    retry happens only after a failure, so it is more likely than others to fail in a bad run. It is compared only
    where it would fail less often.
    """

    def __init__(self, attempts: Sequence[AttemptContext]) -> None:
        self.attempts = attempts
        self.every = (1 << len(attempts)) - 1
        self.bad = self.mask(lambda attempt: attempt.failed)
        self.first_of_run = self.retry = 0
        repetitions: dict[str, dict[int, int]] = defaultdict(dict)
        """Run id -> repetition -> number of its attempts so far."""
        self.by_run: dict[str, int] = defaultdict(int)
        """Run id -> mask of the first attempt of each repetition."""
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
        """Return the mask of the attempts for which `there` is true."""
        return sum(1 << at for at, attempt in enumerate(self.attempts) if there(attempt))

    def among(self, mask: int) -> list[AttemptContext]:
        """Return the attempts in a mask."""
        return [attempt for at, attempt in enumerate(self.attempts) if mask >> at & 1]

    def strata(self) -> list[int]:
        """Return a mask for each run that has several repetitions: their first attempts."""
        return [mask for mask in self.by_run.values() if mask.bit_count() > 1]


def _factor_tests(attempts: Sequence[AttemptContext]) -> tuple[_FactorTest, ...]:
    masks = _AttemptMasks(attempts)
    return (*_binary_tests(masks), *_numeric_tests(masks))


def _significant_causes(tried: Sequence[_FactorTest], level: float) -> tuple[Cause, ...]:
    """Return the significant causes with corrected p-values: mechanisms first, then by uncorrected p-value, so
    that a neighbour comes before the crowd that it is part of.

    Circumstances that name another test get half of the level, all others the other half: there may be hundreds of
    other tests, and correcting for them must not hide the few other circumstances.
    """
    families = [
        [test for test in tried if (test.cause.of.factor in OTHER_TESTS) is named] for named in (False, True)
    ]
    found: list[tuple[Cause, int]] = []
    for family in families:
        times = len(families) * tarone_factor((test.least for test in family), level / len(families))
        found += [(test.cause, times) for test in family if test.matters and test.cause.chance * times <= level]
    found.sort(key=lambda one: _order(one[0]))
    named: dict[Circumstance, Cause] = {}
    for cause, times in found:
        named.setdefault(cause.of, replace(cause, chance=cause.chance * times))
    return tuple(named.values())


def _order(cause: Cause) -> tuple[bool, bool, float, bool]:
    factor = cause.of.factor
    return factor in SYMPTOMS, factor not in MECHANISMS, float(f"{cause.chance:.2g}"), factor is Factor.CROWD


def _binary_circumstances(masks: _AttemptMasks) -> Iterator[tuple[Circumstance, int]]:
    """Yield each binary circumstance with the mask of the attempts in which it was present.

    Circumstances without a subject come first, because of those that always occurred together the first is named.
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
        for circumstance in _named_circumstances(attempt):
            named[circumstance] |= 1 << at
    for circumstance in sorted(named, key=lambda c: (list(Factor).index(c.factor), c.subject)):
        yield circumstance, named[circumstance]


def _named_circumstances(attempt: AttemptContext) -> Iterator[Circumstance]:
    yield Circumstance(factor=Factor.HOST, subject=attempt.host)
    yield Circumstance(factor=Factor.PROFILE, subject=attempt.profile)
    if attempt.after is not None:
        yield Circumstance(factor=Factor.AFTER, subject=attempt.after)
    for neighbour in attempt.neighbours:
        yield Circumstance(factor=Factor.NEIGHBOUR, subject=neighbour)


def _binary_tests(masks: _AttemptMasks) -> Iterator[_FactorTest]:
    together: dict[int, list[tuple[Circumstance, int]]] = defaultdict(list)
    for circumstance, mask in _binary_circumstances(masks):
        if mask not in (0, masks.every):  # else it was the same in all attempts: nothing to compare
            together[min(mask, masks.every ^ mask)].append((circumstance, mask))
    for alike in together.values():
        yield from _tests_of_group(alike, masks)


def _tests_of_group(alike: Sequence[tuple[Circumstance, int]], masks: _AttemptMasks) -> Iterator[_FactorTest]:
    """Yield the tests of circumstances that were present in the same attempts, or in exactly the others."""
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
        yield _FactorTest(cause, least, matters=high >= MINIMUM_RATE_RATIO * low)


def _rate(mask: int, bad: int) -> float:
    return (mask & bad).bit_count() / mask.bit_count()


def _chances(worse: int, masks: _AttemptMasks) -> Iterator[tuple[float, float]]:
    """Yield p-values of more failures among the `worse` attempts, each with the smallest that was possible.

    They are computed from the first attempts of runs, from these with the retries that are not among the worse,
    and from the repetitions within runs.
    """
    firsts, bad = masks.first_of_run, masks.bad
    for units, one_sided in ((firsts, False), (firsts | (masks.retry & ~worse), True)):
        if one_sided and units == firsts:
            continue
        total, failed = units.bit_count(), (units & bad).bit_count()
        with_, both = (units & worse).bit_count(), (units & worse & bad).bit_count()
        if one_sided:
            most = min(with_, failed)
            # doubled, because the data decided which attempts are the worse ones
            least = min(2 * fisher_one_sided(most, with_, failed, total), 1.0)
            yield min(2 * fisher_one_sided(both, with_, failed, total), 1.0), least
        elif both * total >= with_ * failed:  # in the same direction as over all attempts
            yield fisher(both, with_, failed, total), fisher_minimum(with_, failed, total)
    strata = [(s.bit_count(), (s & worse).bit_count(), (s & bad).bit_count()) for s in masks.strata()]
    both = sum((s & worse & bad).bit_count() for s in masks.strata())
    if both >= sum(with_ * failed / total for total, with_, failed in strata) and strata:
        yield stratified_fisher(strata, both)


def _numeric_tests(masks: _AttemptMasks) -> Iterator[_FactorTest]:
    yield from _rank_tests(Factor.THROTTLED, masks, lambda t: t.throttled_ratio, MINIMUM_THROTTLED_DIFFERENCE)
    yield from _rank_tests(Factor.CROWD, masks, lambda t: t.others, MINIMUM_CROWD_DIFFERENCE)
    # the duration of an attempt that timed out is that of its limit, so it is left out
    yield from _rank_tests(
        Factor.DURATION,
        masks,
        lambda t: None if t.outcome is Outcome.TIMEOUT else t.duration_seconds,
        0.0,
    )


def _rank_tests(
    factor: Factor, masks: _AttemptMasks, figure: Callable[[AttemptContext], float | None], least: float
) -> Iterator[_FactorTest]:
    bad, good = _failed_and_passed(masks.attempts, figure)
    if len(bad) < MINIMUM_FAILURES or len(good) < MINIMUM_PASSES or len({*bad, *good}) == 1:
        return
    failed_median, passed_median = median(bad), median(good)
    low, high = sorted((failed_median, passed_median))
    firsts = _failed_and_passed(masks.among(masks.first_of_run), figure)
    chances = [mann_whitney(*firsts)] if all(firsts) else []
    if strata := [_failed_and_passed(masks.among(mask), figure) for mask in masks.strata()]:
        chances.append(van_elteren(strata))
    for chance in chances:
        cause = Cause(
            of=Circumstance(factor=factor),
            chance=chance,
            failed_median=failed_median,
            passed_median=passed_median,
        )
        yield _FactorTest(cause, 0.0, matters=high >= MINIMUM_MEDIAN_RATIO * low and high - low >= least)


def _failed_and_passed(
    attempts: Sequence[AttemptContext], figure: Callable[[AttemptContext], float | None]
) -> tuple[list[float], list[float]]:
    """Return the measured figures of the failed attempts and those of the passed ones."""
    known = [(attempt.failed, value) for attempt in attempts if (value := figure(attempt)) is not None]
    return [value for failed, value in known if failed], [value for failed, value in known if not failed]
