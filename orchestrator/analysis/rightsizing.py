"""Find the smallest profile that would have sufficed for all of a test's history, with a margin. Pure computation.

docs/design/analysis/right-sizing.md explains the rule. The need of a test is computed from its recorded attempts;
a profile is suggested only if its limits would have killed none of them.
"""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import compress
from statistics import median
from typing import TYPE_CHECKING, cast

from orchestrator.figures import percentile
from orchestrator.model.evidence import Launch
from orchestrator.model.outcomes import Outcome
from orchestrator.model.rightsizing import Advice, Need, Observations, Suggestion
from orchestrator.model.usage import THROTTLED_TIMEOUT_RATIO
from orchestrator.text import size_text, two_durations, two_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestrator.model.profiles import Limits, Profile
    from orchestrator.model.rightsizing import Observation
    from orchestrator.model.tests import TestId

WINDOW = timedelta(days=30)
"""Age of the oldest attempts that advice is based on."""
MINIMUM_RUNS = 10
"""Smallest number of runs in which a test must have passed before advice is given."""
MEMORY_MARGIN = 1.15
AFTER_OOM_MARGIN = 1.25
TIME_MARGIN = 1.5
"""Factor on the p99 of the durations; the longest duration gets `LONGEST_MARGIN`."""
LONGEST_MARGIN = 1.15
PIDS_MARGIN = 1.15

_ORDER = (Advice.LARGER, Advice.NONE_HOLDS, Advice.SMALLER, Advice.FITS, Advice.UNKNOWN)
_NOT_JUDGED = frozenset({Outcome.INFRA, Outcome.INTERRUPTED, Outcome.SKIPPED})


def suggest(
    test_id: TestId,
    history: Observations,
    *,
    current: Profile,
    profiles: Iterable[Profile],
    minimum_runs: int = MINIMUM_RUNS,
) -> Suggestion:
    """Return the smallest of `profiles` that suffices for the history, with the reason.

    `current` is the test's present profile with the limits of its rule. Only profiles with the same image, network
    and capabilities are considered.
    """
    judged = (
        history if history.all_passed else _where(history, [one not in _NOT_JUDGED for one in history.outcome])
    )
    passing = judged if judged.all_passed else _where(judged, [one is Outcome.PASSED for one in judged.outcome])
    measured = passing if None not in passing.memory_peak_bytes else _measured(passing)
    runs = len(set(measured.run_id))
    if runs < minimum_runs:
        return _too_few(test_id, current, passing, attempts=len(judged), runs=runs, missing=minimum_runs - runs)
    recorded = _RecordedNeeds(judged)
    holding = [p for p in _candidates(current, profiles) if not any(_shortfalls(p, recorded, current.limits))]
    best = min(holding, key=lambda p: (*_size(p.limits), p is not current, p.name), default=None)
    shortfalls = list(_shortfalls(current, recorded, current.limits))
    chosen = best or current
    return Suggestion(
        test_id=test_id,
        current=current.name,
        advice=_advice(current, best, held=not shortfalls),
        suggested=None if best is None or best is current else best.name,
        runs=runs,
        missing_runs=0,
        attempts=len(judged),
        need=recorded.need(chosen.limits.cpus, reuses=chosen.reuse > 1),
        saved_memory_bytes=current.limits.memory_bytes - chosen.limits.memory_bytes,
        saved_cpus=current.limits.cpus - chosen.limits.cpus,
        saved_timeout_seconds=current.limits.timeout_seconds - chosen.limits.timeout_seconds,
        duration_seconds=median(passing.duration_seconds),
        reason="; ".join([*shortfalls, *_notes(judged, current, chosen)]),
    )


def advice_order(one: Suggestion) -> tuple[int, int, str]:
    """Return the sort key of a suggestion: too small profiles first, then the largest saving of memory."""
    return (_ORDER.index(one.advice), -one.saved_memory_bytes, str(one.test_id))


def _measured(history: Observations) -> Observations:
    """Return the attempts whose memory was measured."""
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
    """Return the limits that a test needs in a profile with `cpus` CPUs.

    `reuses` is True for a profile that reuses its containers. Raises ValueError if no attempt has a memory peak.
    """
    return _RecordedNeeds(history).need(cpus, reuses=reuses)


class _RecordedNeeds:
    """The needs of one test by its history. They are cached, because they are compared with many profiles."""

    def __init__(self, judged: Observations) -> None:
        self._judged = judged
        self.refused = any(judged.pids_limit_hits)
        """True if the pids limit refused a process to any attempt."""
        self._needs: dict[tuple[float, bool], Need] = {}
        self._forked = Launch.FORKED in judged.launch

    def need(self, cpus: float, *, reuses: bool) -> Need:
        """Return the limits that the test needs with `cpus` CPUs; with `reuses` a test that was forked is forked
        again.
        """
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
        """Return the highest peak with a margin, in bytes. Upper bounds count only if no peak is exact.

        Without `forks`, a test that was forked starts a runner of its own, so the memory that was charged before
        the test is added to its peak.
        """
        judged = self._judged
        killed = list(compress(judged.limit_memory_bytes, _ooms(judged)))
        bounds = judged.memory_peak_is_upper_bound
        exact = [
            peak is not None and not bound for peak, bound in zip(judged.memory_peak_bytes, bounds, strict=True)
        ]
        if any(exact) and not all(exact):
            judged = judged.where(exact)
        peaks: Sequence[int | None] = judged.memory_peak_bytes
        if not forks:
            facts = zip(peaks, judged.memory_floor_bytes, judged.launch, strict=True)
            peaks = [
                peak + (floor or 0) if peak is not None and launch == Launch.FORKED else peak
                for peak, floor, launch in facts
            ]
        at_least = max([peak for peak in peaks if peak is not None] + killed)
        return math.ceil(at_least * (AFTER_OOM_MARGIN if killed else MEMORY_MARGIN))

    def _cpus(self) -> float | None:
        judged = self._judged
        attempts = zip(judged.cpu_seconds, judged.duration_seconds, judged.limit_cpus, strict=True)
        shares = sorted(
            [
                share if (share := used / seconds) < limit else limit
                for used, seconds, limit in attempts
                if used is not None and seconds > 0
            ]
        )
        return percentile(shares, 0.95) if shares else None

    def _pids(self) -> int | None:
        most = max((pids for pids in self._judged.pids_peak if pids is not None), default=None)
        return None if most is None else math.ceil(most * PIDS_MARGIN)

    def _timeout(self, cpus: float) -> float:
        judged, hung = self._judged, Observations()
        if Outcome.TIMEOUT in judged.outcome:
            hung = judged.where([one is Outcome.TIMEOUT for one in judged.outcome])
            judged = judged.where([one is not Outcome.TIMEOUT for one in judged.outcome])
        ended = sorted(_seconds_under(judged, cpus))
        bounds = [percentile(ended, 0.99) * TIME_MARGIN, ended[-1] * LONGEST_MARGIN] if ended else []
        limits = zip(hung.limit_timeout_seconds, hung.throttled_seconds, hung.duration_seconds, strict=True)
        # a test that timed out needs an unknown time longer than its limit
        bounds += [limit * (TIME_MARGIN if _throttled(held, seconds) else 1.0) for limit, held, seconds in limits]
        return max(bounds)


def seconds_under(seconds: float, cpu_seconds: float | None, *, had: float, cpus: float) -> float:
    """Return the longest duration, in seconds, that an attempt can have with `cpus` CPUs instead of `had`.

    With fewer CPUs, work that ran in parallel has to wait. In the worst case all work had used all CPUs at once,
    which adds `cpu_seconds * (1/cpus - 1/had)`: the delay is convex in the CPUs in use, so the extremes bound it.
    """
    if cpus >= had:
        return seconds
    if cpu_seconds is None:
        return seconds * had / cpus
    return seconds + cpu_seconds * (1 / cpus - 1 / had)


def _seconds_under(history: Observations, cpus: float) -> Sequence[float]:
    """Return `seconds_under` for each attempt."""
    had = set(history.limit_cpus)
    if cpus >= max(had, default=0.0):
        return history.duration_seconds
    if len(had) == 1 and None not in history.cpu_seconds:
        longer = 1 / cpus - 1 / had.pop()
        pairs = zip(history.duration_seconds, cast("Sequence[float]", history.cpu_seconds), strict=True)
        return [seconds + used * longer for seconds, used in pairs]
    attempts = zip(history.duration_seconds, history.cpu_seconds, history.limit_cpus, strict=True)
    return [seconds_under(seconds, used, had=had, cpus=cpus) for seconds, used, had in attempts]


def kill_under(one: Observation, limits: Limits) -> Outcome | None:
    """Return OOM or TIMEOUT if these limits would have killed an attempt that its own did not; else None."""
    if one.outcome in _NOT_JUDGED:
        return None
    ended_by = {Outcome.OOM, Outcome.TIMEOUT}
    if one.memory_peak_bytes is not None and one.memory_peak_bytes > limits.memory_bytes:
        return Outcome.OOM
    seconds = seconds_under(one.duration_seconds, one.cpu_seconds, had=one.limit_cpus, cpus=limits.cpus)
    if one.outcome not in ended_by and seconds > limits.timeout_seconds:
        return Outcome.TIMEOUT
    return None


def _throttled(held_back_seconds: float | None, seconds: float) -> bool:
    return held_back_seconds is not None and seconds > 0 and held_back_seconds / seconds >= THROTTLED_TIMEOUT_RATIO


def _ooms(history: Observations) -> list[bool]:
    """Return for each attempt whether the OOM killer ended it or one of its processes; an empty list if none."""
    if Outcome.OOM not in history.outcome and not any(history.oom_kills):
        return []
    pairs = zip(history.outcome, history.oom_kills, strict=True)
    return [outcome is Outcome.OOM or bool(kills) for outcome, kills in pairs]


def _shortfalls(profile: Profile, recorded: _RecordedNeeds, present: Limits) -> Iterator[str]:
    """Yield a phrase for each limit of the profile that is too small; none if the profile suffices."""
    limits = profile.limits
    need = recorded.need(limits.cpus, reuses=profile.reuse > 1)
    if need.memory_bytes > limits.memory_bytes:
        yield "memory {} is less than {}".format(*two_sizes(limits.memory_bytes, need.memory_bytes))
    if need.timeout_seconds > limits.timeout_seconds:
        yield "timeout {} is less than {}".format(*two_durations(limits.timeout_seconds, need.timeout_seconds))
    cpus = present.cpus if need.cpus is None else need.cpus
    if cpus > limits.cpus:
        yield f"cpus {limits.cpus:g} are less than {cpus:.2g}"
    pids = present.pids if need.pids is None or recorded.refused else need.pids
    if pids > limits.pids:
        yield f"pids {limits.pids} are less than {pids}"
    for name, label in (("tmpfs_bytes", "tmpfs"), ("outputs_bytes", "outputs"), ("shm_bytes", "shm")):
        # its content counts as memory, so its use was at most the memory that the test needs
        if getattr(limits, name) < min(getattr(present, name), need.memory_bytes):
            yield f"{label} {size_text(getattr(limits, name))} is less than it has, and its use is not known"


def _candidates(current: Profile, profiles: Iterable[Profile]) -> Iterator[Profile]:
    yield current
    for profile in profiles:
        same_name = profile.name == current.name  # then it is the current profile without the limits of the rule
        if profile.same_environment(current) and not (same_name and profile.limits == current.limits):
            yield profile


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
