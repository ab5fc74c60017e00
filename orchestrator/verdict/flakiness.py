"""What a flaky test's failures have in common against its passes, as far as chance does not explain it. Pure.

Each circumstance (a neighbour, a host, being throttled, …) is tested: yes or no by Fisher's exact test, figures by
the rank test of Mann and Whitney; the probabilities are corrected for their number. Below the stated level a cause
is named, else none: docs/design/flaky.md has the error rates. A circumstance may be a sign instead of the cause:
what comes along with it, is named with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.model import Outcome
from orchestrator.model_flaky import (
    MINIMUM_FAILURES,
    MINIMUM_PASSES,
    OTHER_TESTS,
    SIGNS,
    Cause,
    Circumstance,
    Factor,
    Finding,
    Share,
)
from orchestrator.verdict.chance import effective_number, fisher, fisher_more, least_fisher, mann_whitney, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from orchestrator.model_flaky import FlakyTest, Trial

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


def find(test: FlakyTest, *, level: float = LEVEL) -> Finding:
    """The test's rate of failures and their causes. ValueError: no attempts."""
    trials = test.trials
    if not trials:
        raise ValueError(f"{test.test_id} has no attempts")
    failed = sum(trial.failed for trial in trials)
    low, high = wilson(failed, len(trials))
    missing = max(MINIMUM_FAILURES - failed, MINIMUM_PASSES - (len(trials) - failed), 0)
    tried = () if missing else _tests(trials)
    return Finding(
        test_id=test.test_id,
        failed=failed,
        total=len(trials),
        low=low,
        high=high,
        ends=Counter(trial.outcome for trial in trials if trial.failed),
        missing=missing,
        tried=len(tried),
        causes=_beyond_chance(tried, level),
    )


def suspects(trials: Sequence[Trial], factor: Factor, *, at_most: int) -> tuple[str, ...]:
    """Neighbours (or predecessors) that are there more often when the test fails, by their names, the most
    suspicious first. Not causes: chance may explain them. With no failure, those that are there most often.
    """
    marks: dict[str, int] = {c.subject: mask for c, mask in _yes_or_no(trials) if c.factor is factor}
    bad = _mask(trials, lambda trial: trial.failed)
    failed, total = bad.bit_count(), len(trials)
    ranked = []
    for name, mask in marks.items():
        with_, both = mask.bit_count(), (mask & bad).bit_count()
        if not failed or (both and both / with_ > failed / total):
            ranked.append((fisher_more(both, with_, failed, total), -with_, name))
    return tuple(name for _, _, name in sorted(ranked)[:at_most])


# ---------------------------------------------------------------- the tests


@dataclass(frozen=True, slots=True)
class _Test:
    """A circumstance that differed between attempts, and what chance says of it."""

    cause: Cause
    """Its chance is not corrected yet."""
    least: float
    """The smallest chance that it could have had."""
    matters: bool
    """The difference is large enough to be worth a word."""


def _tests(trials: Sequence[Trial]) -> tuple[_Test, ...]:
    return (*_of_yes_or_no(trials), *_of_figures(trials))


def _beyond_chance(tried: Sequence[_Test], level: float) -> tuple[Cause, ...]:
    """Half of the level is for circumstances that name another test: there may be hundreds of these, and the few
    others should not have to be the clearer for it. In the order of the chances before their correction, so that a
    neighbour comes before the crowd that it made.
    """
    families = [
        [test for test in tried if (test.cause.of.factor in OTHER_TESTS) is named] for named in (False, True)
    ]
    found: list[tuple[Cause, int]] = []
    for family in families:
        times = len(families) * effective_number((test.least for test in family), level / len(families))
        found += [(test.cause, times) for test in family if test.matters and test.cause.chance * times <= level]
    found.sort(key=lambda one: _order(one[0]))
    return tuple(replace(cause, chance=cause.chance * times) for cause, times in found)


def _order(cause: Cause) -> tuple[bool, float, bool]:
    factor = cause.of.factor
    return factor in SIGNS, float(f"{cause.chance:.2g}"), factor is Factor.CROWD


def _mask(trials: Sequence[Trial], there: Callable[[Trial], bool]) -> int:
    """A bit for each attempt."""
    return sum(1 << at for at, trial in enumerate(trials) if there(trial))


def _yes_or_no(trials: Sequence[Trial]) -> Iterator[tuple[Circumstance, int]]:
    """Circumstances that are there or not, each with the attempts in which it was. The plain ones first: of those
    that always came together, the first is named.
    """
    if all(trial.memory_ratio is not None for trial in trials):
        near = _mask(trials, lambda t: t.memory_ratio is not None and t.memory_ratio >= MEMORY_NEAR)
        yield Circumstance(factor=Factor.MEMORY), near
    if all(trial.others is not None for trial in trials):
        yield Circumstance(factor=Factor.PARALLEL), _mask(trials, lambda t: (t.others or 0) > _ALONE)
    yield Circumstance(factor=Factor.REUSED), _mask(trials, lambda t: t.slot_position > 1)
    yield Circumstance(factor=Factor.FORKED), _mask(trials, lambda t: t.forked)
    named: dict[Circumstance, int] = defaultdict(int)
    for at, trial in enumerate(trials):
        for circumstance in _named(trial):
            named[circumstance] |= 1 << at
    for circumstance in sorted(named, key=lambda c: (list(Factor).index(c.factor), c.subject)):
        yield circumstance, named[circumstance]


def _named(trial: Trial) -> Iterator[Circumstance]:
    yield Circumstance(factor=Factor.HOST, subject=trial.host)
    yield Circumstance(factor=Factor.PROFILE, subject=trial.profile)
    if trial.after is not None:
        yield Circumstance(factor=Factor.AFTER, subject=trial.after)
    for neighbour in trial.neighbours:
        yield Circumstance(factor=Factor.NEIGHBOUR, subject=neighbour)


def _of_yes_or_no(trials: Sequence[Trial]) -> Iterator[_Test]:
    everything = (1 << len(trials)) - 1
    bad = _mask(trials, lambda trial: trial.failed)
    together: dict[int, list[tuple[Circumstance, int]]] = defaultdict(list)
    for circumstance, mask in _yes_or_no(trials):
        if mask not in (0, everything):  # it was the same in all of them: nothing to compare
            together[min(mask, everything ^ mask)].append((circumstance, mask))
    for alike in together.values():
        yield _fisher_test(alike, bad, len(trials))


def _fisher_test(alike: Sequence[tuple[Circumstance, int]], bad: int, total: int) -> _Test:
    """One test for circumstances that were there in the same attempts, or in exactly the others."""
    failed = bad.bit_count()
    (first, mask), *others = sorted(alike, key=lambda one: (one[1] & bad).bit_count() < _expected(one, bad, total))
    with_, both = mask.bit_count(), (mask & bad).bit_count()
    present = Share(failed=both, total=with_)
    absent = Share(failed=failed - both, total=total - with_)
    low, high = sorted((present.rate, absent.rate))
    cause = Cause(
        of=first,
        chance=fisher(both, with_, failed, total),
        present=present,
        absent=absent,
        together_with=tuple(circumstance for circumstance, _ in others),
    )
    return _Test(cause, least_fisher(with_, failed, total), matters=high >= LEAST_RATES * low)


def _expected(one: tuple[Circumstance, int], bad: int, total: int) -> float:
    return one[1].bit_count() * bad.bit_count() / total


def _of_figures(trials: Sequence[Trial]) -> Iterator[_Test]:
    yield from _rank_test(Factor.THROTTLED, trials, lambda t: t.throttled_ratio, LEAST_THROTTLED)
    yield from _rank_test(Factor.CROWD, trials, lambda t: t.others, LEAST_CROWD)
    ended = [trial for trial in trials if trial.outcome is not Outcome.TIMEOUT]  # those have its limit's length
    yield from _rank_test(Factor.DURATION, ended, lambda t: t.duration_seconds, 0.0)


def _rank_test(
    factor: Factor, trials: Iterable[Trial], figure: Callable[[Trial], float | None], least: float
) -> Iterator[_Test]:
    known = [(trial.failed, value) for trial in trials if (value := figure(trial)) is not None]
    bad = [value for failed, value in known if failed]
    good = [value for failed, value in known if not failed]
    if len(bad) < MINIMUM_FAILURES or len(good) < MINIMUM_PASSES or len({*bad, *good}) == 1:
        return
    failed_median, passed_median = median(bad), median(good)
    low, high = sorted((failed_median, passed_median))
    cause = Cause(
        of=Circumstance(factor=factor),
        chance=mann_whitney(bad, good),
        failed_median=failed_median,
        passed_median=passed_median,
    )
    yield _Test(cause, 0.0, matters=high >= LEAST_MEDIANS * low and high - low >= least)
