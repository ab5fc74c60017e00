"""The smallest profile that would have held all of a test's history, with a margin. Pure.

The rule and its reasons: docs/design/analysis/right-sizing.md. What a test needs follows from its past attempts; a
profile is proposed only if none of them, replayed under its limits, would have been killed by them.
"""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import compress
from statistics import median
from typing import TYPE_CHECKING, cast

from orchestrator.model.evidence import Launch
from orchestrator.model.outcomes import Outcome
from orchestrator.model.rightsizing import Advice, Need, Observations, Suggestion
from orchestrator.text import seconds_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestrator.model.profiles import Limits, Profile
    from orchestrator.model.rightsizing import Observation
    from orchestrator.model.tests import TestId

WINDOW = timedelta(days=30)
"""How far back the history goes that advice rests on."""
MINIMUM_RUNS = 10
"""Runs in which a test must have passed before anything is said of it."""
MEMORY_MARGIN = 1.15
AFTER_OOM_MARGIN = 1.25
TIME_MARGIN = 1.5
"""Of the p99 of its times; the longest of all gets `LONGEST_MARGIN`."""
LONGEST_MARGIN = 1.15
PIDS_MARGIN = 1.15
THROTTLED_RATIO = 0.25
"""The share of throttled time from which a timeout counts as caused by the CPU limit.

The same value as for promotion: docs/design/scheduling/attempts.md.
"""

_ORDER = (Advice.LARGER, Advice.NONE_HOLDS, Advice.SMALLER, Advice.FITS, Advice.UNKNOWN)
_ASIDE = frozenset({Outcome.INFRA, Outcome.INTERRUPTED, Outcome.SKIPPED})


def suggest(
    test_id: TestId,
    history: Observations,
    *,
    current: Profile,
    profiles: Iterable[Profile],
    minimum_runs: int = MINIMUM_RUNS,
) -> Suggestion:
    """The smallest of `profiles` that holds the history; `current` is the profile that the test has now, with its
    rule's own limits. Only profiles with the same image, network and capabilities are looked at.
    """
    told = history if history.all_passed else _where(history, [one not in _ASIDE for one in history.outcome])
    passing = told if told.all_passed else _where(told, [one is Outcome.PASSED for one in told.outcome])
    measured = passing if None not in passing.memory_peak_bytes else _measured(passing)
    runs = len(set(measured.run_id))
    if runs < minimum_runs:
        return _too_few(test_id, current, passing, attempts=len(told), runs=runs, missing=minimum_runs - runs)
    past = _Past(told)
    holding = [p for p in _candidates(current, profiles) if not any(_short(p, past, current.limits))]
    best = min(holding, key=lambda p: (*_size(p.limits), p is not current, p.name), default=None)
    shortfalls = list(_short(current, past, current.limits))
    chosen = best or current
    return Suggestion(
        test_id=test_id,
        current=current.name,
        advice=_advice(current, best, held=not shortfalls),
        suggested=None if best is None or best is current else best.name,
        runs=runs,
        missing_runs=0,
        attempts=len(told),
        need=past.need(chosen.limits.cpus, reuses=chosen.reuse > 1),
        saved_memory_bytes=current.limits.memory_bytes - chosen.limits.memory_bytes,
        saved_cpus=current.limits.cpus - chosen.limits.cpus,
        saved_timeout_seconds=current.limits.timeout_seconds - chosen.limits.timeout_seconds,
        duration_seconds=median(passing.duration_seconds),
        reason="; ".join([*shortfalls, *_notes(told, current, chosen)]),
    )


def advice_order(one: Suggestion) -> tuple[int, int, str]:
    """Too small ones first, then the largest saving of memory."""
    return (_ORDER.index(one.advice), -one.saved_memory_bytes, str(one.test_id))


def _measured(history: Observations) -> Observations:
    """Attempts whose memory is known."""
    return history.where([peak is not None for peak in history.memory_peak_bytes])


def _where(history: Observations, wanted: Sequence[bool]) -> Observations:
    return history if all(wanted) else history.where(wanted)


def _too_few(
    test_id: TestId, current: Profile, passing: Observations, *, attempts: int, runs: int, missing: int
) -> Suggestion:
    reason = f"{missing} more runs are needed" if missing > 1 else "one more run is needed"
    unmeasured = len(set(passing.run_id)) - runs
    if unmeasured:
        reason += f"; memory was not measured in {unmeasured}"
    return Suggestion(
        test_id=test_id,
        current=current.name,
        advice=Advice.UNKNOWN,
        suggested=None,
        runs=runs,
        missing_runs=missing,
        attempts=attempts,
        reason=reason,
    )


def need_of(history: Observations, *, cpus: float, reuses: bool = False) -> Need:
    """What a profile with so many CPUs must grant, one that reuses its containers or not. ValueError: no attempt
    has a memory peak.
    """
    return _Past(history).need(cpus, reuses=reuses)


class _Past:
    """A history as profiles are held against it, one after the other: each figure is worked out once."""

    def __init__(self, told: Observations) -> None:
        self._told = told
        self.refused = any(told.pids_limit_hits)
        """Whether any attempt was refused a process."""
        self._needs: dict[tuple[float, bool], Need] = {}
        self._forked = Launch.FORKED in told.launch

    def need(self, cpus: float, *, reuses: bool) -> Need:
        """What a profile with so many CPUs must grant. `reuses`: its tests may be forked, if they were before."""
        key = (cpus, reuses or not self._forked)
        if key not in self._needs:
            known = next(iter(self._needs.values()), None)
            alike = next((need for (_, forks), need in self._needs.items() if forks == key[1]), None)
            self._needs[key] = Need(
                cpus=self._cpus() if known is None else known.cpus,
                memory_bytes=self._memory(forks=key[1]) if alike is None else alike.memory_bytes,
                timeout_seconds=self._timeout(cpus),
                pids=self._pids() if known is None else known.pids,
            )
        return self._needs[key]

    def _memory(self, *, forks: bool) -> int:
        """The highest figure, with a margin; bounds speak only where there is no figure at all. Without a runner
        to be forked from, a test that was forked needs one of its own: at most what stood before it.
        """
        told = self._told
        killed = list(compress(told.limit_memory_bytes, _ooms(told)))
        bounds = told.memory_peak_is_upper_bound
        exact = [
            peak is not None and not bound for peak, bound in zip(told.memory_peak_bytes, bounds, strict=True)
        ]
        if any(exact) and not all(exact):
            told = told.where(exact)
        peaks: Sequence[int | None] = told.memory_peak_bytes
        if not forks:
            facts = zip(peaks, told.memory_floor_bytes, told.launch, strict=True)
            peaks = [
                peak + (floor or 0) if peak is not None and launch == Launch.FORKED else peak
                for peak, floor, launch in facts
            ]
        at_least = max([peak for peak in peaks if peak is not None] + killed)
        return math.ceil(at_least * (AFTER_OOM_MARGIN if killed else MEMORY_MARGIN))

    def _cpus(self) -> float | None:
        told = self._told
        attempts = zip(told.cpu_seconds, told.duration_seconds, told.limit_cpus, strict=True)
        shares = sorted(
            [
                share if (share := used / seconds) < limit else limit
                for used, seconds, limit in attempts
                if used is not None and seconds > 0
            ]
        )
        return _percentile(shares, 0.95) if shares else None

    def _pids(self) -> int | None:
        most = max((pids for pids in self._told.pids_peak if pids is not None), default=None)
        return None if most is None else math.ceil(most * PIDS_MARGIN)

    def _timeout(self, cpus: float) -> float:
        told, hung = self._told, Observations()
        if Outcome.TIMEOUT in told.outcome:
            hung = told.where([one is Outcome.TIMEOUT for one in told.outcome])
            told = told.where([one is not Outcome.TIMEOUT for one in told.outcome])
        ended = sorted(_seconds_under(told, cpus))
        bounds = [_percentile(ended, 0.99) * TIME_MARGIN, ended[-1] * LONGEST_MARGIN] if ended else []
        limits = zip(hung.limit_timeout_seconds, hung.throttled_seconds, hung.duration_seconds, strict=True)
        # what timed out took longer than its limit; how much nobody knows
        bounds += [limit * (TIME_MARGIN if _throttled(held, seconds) else 1.0) for limit, held, seconds in limits]
        return max(bounds)


def seconds_under(seconds: float, cpu_seconds: float | None, *, had: float, cpus: float) -> float:
    """The longest that an attempt can have taken with so many CPUs. With fewer than it had, work that ran beside
    other work waits: at worst all of it had run on all CPUs at once, which makes `cpu_seconds (1/cpus - 1/had)`
    more (the stretch of an instant is convex in its use of CPUs, so the extremes bound it).
    """
    if cpus >= had:
        return seconds
    if cpu_seconds is None:
        return seconds * had / cpus
    return seconds + cpu_seconds * (1 / cpus - 1 / had)


def _seconds_under(history: Observations, cpus: float) -> Sequence[float]:
    """`seconds_under` of each attempt."""
    had = set(history.limit_cpus)
    if cpus >= max(had, default=0.0):
        return history.duration_seconds
    if len(had) == 1 and None not in history.cpu_seconds:
        longer = 1 / cpus - 1 / had.pop()
        pairs = zip(history.duration_seconds, cast("Sequence[float]", history.cpu_seconds), strict=True)
        return [seconds + used * longer for seconds, used in pairs]
    attempts = zip(history.duration_seconds, history.cpu_seconds, history.limit_cpus, strict=True)
    return [seconds_under(seconds, used, had=had, cpus=cpus) for seconds, used, had in attempts]


def caused_kill(one: Observation, limits: Limits) -> Outcome | None:
    """OOM or TIMEOUT, if that is what these limits would have made of an attempt that its own let live."""
    if one.outcome in _ASIDE:
        return None
    ended_by = {Outcome.OOM, Outcome.TIMEOUT}
    if one.memory_peak_bytes is not None and one.memory_peak_bytes > limits.memory_bytes:
        return Outcome.OOM
    seconds = seconds_under(one.duration_seconds, one.cpu_seconds, had=one.limit_cpus, cpus=limits.cpus)
    if one.outcome not in ended_by and seconds > limits.timeout_seconds:
        return Outcome.TIMEOUT
    return None


def _throttled(held_back_seconds: float | None, seconds: float) -> bool:
    return held_back_seconds is not None and seconds > 0 and held_back_seconds / seconds >= THROTTLED_RATIO


def _ooms(history: Observations) -> list[bool]:
    """Which attempts were out of memory, or had a process killed for want of it; empty: none."""
    if Outcome.OOM not in history.outcome and not any(history.oom_kills):
        return []
    pairs = zip(history.outcome, history.oom_kills, strict=True)
    return [outcome is Outcome.OOM or bool(kills) for outcome, kills in pairs]


def _short(profile: Profile, past: _Past, present: Limits) -> Iterator[str]:
    """What a profile's limits lack, a phrase each; nothing: they hold the history."""
    limits = profile.limits
    need = past.need(limits.cpus, reuses=profile.reuse > 1)
    if need.memory_bytes > limits.memory_bytes:
        yield f"memory {size_text(limits.memory_bytes)} is less than {size_text(need.memory_bytes)}"
    if need.timeout_seconds > limits.timeout_seconds:
        yield f"timeout {seconds_text(limits.timeout_seconds)} is less than {seconds_text(need.timeout_seconds)}"
    cpus = present.cpus if need.cpus is None else need.cpus
    if cpus > limits.cpus:
        yield f"cpus {limits.cpus:g} are less than {cpus:.2g}"
    pids = present.pids if need.pids is None or past.refused else need.pids
    if pids > limits.pids:
        yield f"pids {limits.pids} are less than {pids}"
    for name, label in (("tmpfs_bytes", "tmpfs"), ("outputs_bytes", "outputs"), ("shm_bytes", "shm")):
        # what is in it counts as memory: no more of it can have been used than memory was
        if getattr(limits, name) < min(getattr(present, name), need.memory_bytes):
            yield f"{label} {size_text(getattr(limits, name))} is less than it has, and its use is not known"


def _candidates(current: Profile, profiles: Iterable[Profile]) -> Iterator[Profile]:
    yield current
    for profile in profiles:
        alike = profile.image == current.image and profile.network == current.network
        if alike and set(profile.capabilities) == set(current.capabilities) and profile.name != current.name:
            yield profile
        elif alike and profile.name == current.name and profile.limits != current.limits:
            yield profile  # the same without the rule's own limits


def _size(limits: Limits) -> tuple[int, float, float]:
    return (limits.memory_bytes, limits.cpus, limits.timeout_seconds)


def _advice(current: Profile, best: Profile | None, *, held: bool) -> Advice:
    if best is None:
        return Advice.NONE_HOLDS
    if best is current:
        return Advice.FITS
    return Advice.SMALLER if held else Advice.LARGER


def _notes(history: Observations, current: Profile, chosen: Profile) -> Iterator[str]:
    ooms = sum(_ooms(history))
    timeouts = history.outcome.count(Outcome.TIMEOUT)
    if ooms:
        yield f"out of memory {ooms} times"
    if timeouts:
        yield f"timed out {timeouts} times"
    if chosen.limits.nofile < current.limits.nofile:
        yield f"open files are not measured exactly: their limit falls to {chosen.limits.nofile}"
    if chosen.reuse > 1 and current.reuse == 1:
        yield "its containers are reused"


def _percentile(ordered: Sequence[float], ratio: float) -> float:
    """Nearest rank, as the database's: one of the values. Stages do not import each other."""
    rank = math.ceil(round(ratio * len(ordered), 9))
    return ordered[max(rank, 1) - 1]
