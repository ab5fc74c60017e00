"""What a flaky test's failures have in common against its passes, in one line, as far as was measured. Pure."""

from __future__ import annotations

import itertools
from statistics import mean, median
from typing import TYPE_CHECKING

from orchestrator.model import Outcome
from orchestrator.model_nightly import GOOD
from orchestrator.model_reports import Resource
from orchestrator.reports.text import format_duration, format_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model_nightly import HistoryPoint, NightTest

_THROTTLED_MUCH = 0.2
_MEMORY_NEAR = 0.9
_TIMES = 1.5
_SWITCHES = 2
"""A test that broke once, or was mended once, is not flaky; one that did both may be."""


def is_flaky(test: NightTest) -> bool:
    """It passed and failed within a run, or went back and forth between runs."""
    finals = test.finals
    if any(point.flaky for point in finals):
        return True
    good = [point.outcome in GOOD for point in finals]
    return sum(a is not b for a, b in itertools.pairwise(good)) >= _SWITCHES


def cause(test: NightTest) -> str:
    """One sentence."""
    points = (*test.before, *test.now)
    failed = [p for p in points if p.outcome not in GOOD]
    passed = [p for p in points if p.outcome is Outcome.PASSED]
    if not failed or not passed:
        return "too little is known: no failure and pass to compare"
    found = (
        _ends(failed)
        or _throttled(failed, passed)
        or _memory(failed, passed)
        or _slots(failed, passed)
        or _length(failed, passed)
    )
    return found or "nothing measured sets its failures apart from its passes"


def _ends(failed: Sequence[HistoryPoint]) -> str | None:
    if all(p.outcome is Outcome.OOM for p in failed):
        return "each failure ran out of memory"
    if all(p.outcome is Outcome.TIMEOUT for p in failed):
        return "each failure ran out of time"
    return None


def _share(points: Sequence[HistoryPoint]) -> float | None:
    shares = [
        p.figures[Resource.THROTTLED] / p.figures[Resource.DURATION]
        for p in points
        if Resource.THROTTLED in p.figures and p.figures.get(Resource.DURATION)
    ]
    return mean(shares) if shares else None


def _throttled(failed: Sequence[HistoryPoint], passed: Sequence[HistoryPoint]) -> str | None:
    bad, good = _share(failed), _share(passed)
    if bad is None or good is None or bad < _THROTTLED_MUCH or bad < _TIMES * good:
        return None
    return f"held back by its CPU limit {format_ratio(bad)} of the time when it fails, {format_ratio(good)} else"


def _memory(failed: Sequence[HistoryPoint], passed: Sequence[HistoryPoint]) -> str | None:
    bad = [p.figures[Resource.MEMORY_RATIO] for p in failed if Resource.MEMORY_RATIO in p.figures]
    good = [p.figures[Resource.MEMORY_RATIO] for p in passed if Resource.MEMORY_RATIO in p.figures]
    if not bad or not good or median(bad) < _MEMORY_NEAR or median(good) >= _MEMORY_NEAR:
        return None
    return f"at {format_ratio(median(bad))} of its memory when it fails, {format_ratio(median(good))} else"


def _slots(failed: Sequence[HistoryPoint], passed: Sequence[HistoryPoint]) -> str | None:
    alone = [p for p in passed if p.slot_position == 1]
    if len(failed) >= 2 and len(alone) >= 2 and all(p.slot_position > 1 for p in failed):
        return "failed only after other tests in the same container"
    return None


def _length(failed: Sequence[HistoryPoint], passed: Sequence[HistoryPoint]) -> str | None:
    bad = median(p.figures.get(Resource.DURATION, 0.0) for p in failed)
    good = median(p.figures.get(Resource.DURATION, 0.0) for p in passed)
    if min(bad, good) <= 0 or max(bad, good) < 2 * min(bad, good):
        return None
    return f"takes {format_duration(bad)} when it fails, {format_duration(good)} when it passes"
