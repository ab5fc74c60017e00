"""The smallest profile that would have held all of a test's history, with a margin. Pure.

The rule and its reasons: docs/design/right-sizing.md. What a test needs follows from its past attempts; a profile
is proposed only if none of them, replayed under its limits, would have been killed by them.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.model import Outcome
from orchestrator.model_reports import Advice, Need, Suggestion
from orchestrator.verdict.phrases import seconds_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestrator.model import Limits, Profile, TestId
    from orchestrator.model_reports import Observed

MINIMUM_RUNS = 10
"""Runs in which a test must have passed before anything is said of it."""
MEMORY_MARGIN = 1.15
AFTER_OOM_MARGIN = 1.25
TIME_MARGIN = 1.5
"""Of the p99 of its times; the longest of all gets `LONGEST_MARGIN`."""
LONGEST_MARGIN = 1.15
PIDS_MARGIN = 1.15
THROTTLED_RATIO = 0.25
"""A timeout that was throttled for this share of its time wanted more, as in docs/design/promotion.md."""
CACHE_RATIO = 0.25
"""Share of the peak from which page cache is worth a note."""

_ASIDE = frozenset({Outcome.INFRA, Outcome.INTERRUPTED, Outcome.SKIPPED})


def suggest(
    test_id: TestId,
    history: Sequence[Observed],
    *,
    current: Profile,
    profiles: Iterable[Profile],
    minimum_runs: int = MINIMUM_RUNS,
) -> Suggestion:
    """The smallest of `profiles` that holds the history; `current` is the profile that the test has now, with its
    rule's own limits. Only profiles with the same image, network and capabilities are looked at.
    """
    told = [one for one in history if one.outcome not in _ASIDE]
    passed = [one for one in told if one.outcome is Outcome.PASSED]
    runs = len({one.run_id for one in passed if one.memory_peak_bytes is not None})
    if runs < minimum_runs:
        return _too_few(test_id, current, told, runs=runs, missing=minimum_runs - runs)
    holding = [p for p in _candidates(current, profiles) if not any(_short(p.limits, told, current.limits))]
    best = min(holding, key=lambda p: (*_size(p.limits), p is not current, p.name), default=None)
    shortfalls = list(_short(current.limits, told, current.limits))
    chosen = best or current
    return Suggestion(
        test_id=test_id,
        current=current.name,
        advice=_advice(current, best, held=not shortfalls),
        suggested=None if best is None or best is current else best.name,
        runs=runs,
        missing_runs=0,
        attempts=len(told),
        need=need_of(told, cpus=chosen.limits.cpus),
        saved_memory_bytes=current.limits.memory_bytes - chosen.limits.memory_bytes,
        saved_cpus=current.limits.cpus - chosen.limits.cpus,
        saved_timeout_seconds=current.limits.timeout_seconds - chosen.limits.timeout_seconds,
        duration_seconds=median(one.duration_seconds for one in passed),
        reason="; ".join([*shortfalls, *_notes(told, current, chosen)]),
    )


def _too_few(
    test_id: TestId, current: Profile, told: Sequence[Observed], *, runs: int, missing: int
) -> Suggestion:
    reason = f"{missing} more runs are needed" if missing > 1 else "one more run is needed"
    unmeasured = len({one.run_id for one in told if one.outcome is Outcome.PASSED}) - runs
    if unmeasured:
        reason += f"; memory was not measured in {unmeasured}"
    return Suggestion(
        test_id=test_id,
        current=current.name,
        advice=Advice.UNKNOWN,
        suggested=None,
        runs=runs,
        missing_runs=missing,
        attempts=len(told),
        reason=reason,
    )


def need_of(history: Sequence[Observed], *, cpus: float) -> Need:
    """What a profile with so many CPUs must grant. ValueError: no attempt has a memory peak."""
    peaks = [one.memory_peak_bytes for one in history if one.memory_peak_bytes is not None]
    killed = [one for one in history if _out_of_memory(one)]
    margin = AFTER_OOM_MARGIN if killed else MEMORY_MARGIN
    at_least = max([*peaks, *(one.limit_memory_bytes for one in killed)])
    shares = sorted(
        min(one.cpu_seconds / one.duration_seconds, one.limit_cpus)
        for one in history
        if one.cpu_seconds is not None and one.duration_seconds > 0
    )
    pids = [one.pids_peak for one in history if one.pids_peak is not None]
    return Need(
        cpus=_percentile(shares, 0.95) if shares else None,
        memory_bytes=math.ceil(at_least * margin),
        timeout_seconds=_timeout(history, cpus),
        pids=math.ceil(max(pids) * PIDS_MARGIN) if pids else None,
    )


def seconds_under(one: Observed, cpus: float) -> float:
    """The longest that an attempt can have taken with so many CPUs. With fewer than it had, work that ran beside
    other work waits: at worst all of it had run on all CPUs at once, which makes `cpu_seconds (1/cpus - 1/had)`
    more (the stretch of an instant is convex in its use of CPUs, so the extremes bound it).
    """
    if cpus >= one.limit_cpus:
        return one.duration_seconds
    if one.cpu_seconds is None:
        return one.duration_seconds * one.limit_cpus / cpus
    return one.duration_seconds + one.cpu_seconds * (1 / cpus - 1 / one.limit_cpus)


def caused_kill(one: Observed, limits: Limits) -> Outcome | None:
    """OOM or TIMEOUT, if that is what these limits would have made of an attempt that its own let live."""
    if one.outcome in _ASIDE:
        return None
    ended_by = {Outcome.OOM, Outcome.TIMEOUT}
    if one.memory_peak_bytes is not None and one.memory_peak_bytes > limits.memory_bytes:
        return Outcome.OOM
    if one.outcome not in ended_by and seconds_under(one, limits.cpus) > limits.timeout_seconds:
        return Outcome.TIMEOUT
    return None


def _timeout(history: Sequence[Observed], cpus: float) -> float:
    ended = sorted(seconds_under(one, cpus) for one in history if one.outcome is not Outcome.TIMEOUT)
    bounds = [_percentile(ended, 0.99) * TIME_MARGIN, ended[-1] * LONGEST_MARGIN] if ended else []
    bounds += [  # what timed out took longer than its limit; how much nobody knows
        one.limit_timeout_seconds * (TIME_MARGIN if _throttled(one) else 1.0)
        for one in history
        if one.outcome is Outcome.TIMEOUT
    ]
    return max(bounds)


def _throttled(one: Observed) -> bool:
    if one.throttled_seconds is None or one.duration_seconds <= 0:
        return False
    return one.throttled_seconds / one.duration_seconds >= THROTTLED_RATIO


def _out_of_memory(one: Observed) -> bool:
    return one.outcome is Outcome.OOM or bool(one.oom_kills)


def _short(limits: Limits, history: Sequence[Observed], present: Limits) -> Iterator[str]:
    """What these limits lack, a phrase each; nothing: they hold the history."""
    need = need_of(history, cpus=limits.cpus)
    if need.memory_bytes > limits.memory_bytes:
        yield f"memory {size_text(limits.memory_bytes)} is less than {size_text(need.memory_bytes)}"
    if need.timeout_seconds > limits.timeout_seconds:
        yield f"timeout {seconds_text(limits.timeout_seconds)} is less than {seconds_text(need.timeout_seconds)}"
    cpus = present.cpus if need.cpus is None else need.cpus
    if cpus > limits.cpus:
        yield f"cpus {limits.cpus:g} are less than {cpus:.2g}"
    refused = any(one.pids_limit_hits for one in history)
    pids = present.pids if need.pids is None or refused else need.pids
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


def _notes(history: Sequence[Observed], current: Profile, chosen: Profile) -> Iterator[str]:
    ooms = sum(map(_out_of_memory, history))
    timeouts = sum(one.outcome is Outcome.TIMEOUT for one in history)
    if ooms:
        yield f"out of memory {ooms} times"
    if timeouts:
        yield f"timed out {timeouts} times"
    peak = max(history, key=lambda one: one.memory_peak_bytes or 0)
    cache, total = peak.file_peak_bytes, peak.memory_peak_bytes
    if cache is not None and total and cache / total >= CACHE_RATIO:
        yield f"{size_text(cache)} of its peak was page cache, which the kernel can take back"
    if chosen.limits.nofile < current.limits.nofile:
        yield f"open files are not measured exactly: their limit falls to {chosen.limits.nofile}"
    if chosen.reuse > 1 and current.reuse == 1:
        yield "its containers are reused"


def _percentile(ordered: Sequence[float], ratio: float) -> float:
    """Nearest rank, as the database's: one of the values. Stages do not import each other."""
    rank = math.ceil(round(ratio * len(ordered), 9))
    return ordered[max(rank, 1) - 1]
