"""Find tests whose profile is far larger than needed. Pure computation."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from orchestrator.model.evidence import Launch
from orchestrator.model.outcomes import Outcome
from orchestrator.model.violations import Severity, Violation, ViolationKind
from orchestrator.text import format_ratio, seconds_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestrator.model.evidence import Evidence
    from orchestrator.model.profiles import Limits, Profile
    from orchestrator.model.tests import History

_NO_LARGER = (
    "memory_bytes",
    "timeout_seconds",
    "cpus",
    "pids",
    "nofile",
    "tmpfs_bytes",
    "outputs_bytes",
    "shm_bytes",
)


def oversized(
    evidence: Evidence, profile: Profile, outcome: Outcome, others: Iterable[Profile]
) -> Iterator[Violation]:
    """Yield a notice if a test that passed needs at most `oversized_ratio` of the next smaller of `others`.

    Only a profile with the same image, network and capabilities counts as smaller, because a test's open files and
    use of the network are not known. A peak that is an upper bound is good enough. If the smaller profile does not
    reuse its containers, a test that was forked would start a runner of its own there, so the memory that was
    charged before the test is added to its peak.
    """
    ratio, usage = profile.thresholds.oversized_ratio, evidence.usage
    peak, duration = usage.memory_peak_bytes, evidence.counted_seconds
    if ratio is None or outcome is not Outcome.PASSED or peak is None or duration <= 0:
        return
    if usage.cpu_seconds is None or usage.pids_peak is None:
        return
    smaller = _next_smaller(profile, tuple(others))
    if smaller is None:
        return
    limits = smaller.limits
    if evidence.slot.launch is Launch.FORKED and smaller.reuse == 1:
        peak += usage.memory_floor_bytes or 0
    share = max(
        peak / limits.memory_bytes,
        max(duration, usage.cpu_seconds / limits.cpus) / limits.timeout_seconds,
        usage.pids_peak / limits.pids,
    )
    if share <= ratio:
        yield Violation(
            kind=ViolationKind.OVERSIZED,
            severity=Severity.NOTICE,
            measured=share,
            limit=ratio,
            unit="ratio",
            message=f"profile {profile.name} is larger than needed: {size_text(peak)}, {seconds_text(duration)} "
            f"and {usage.pids_peak} tasks are at most {format_ratio(share)} of what {smaller.name} grants "
            f"({size_text(limits.memory_bytes)}, {seconds_text(limits.timeout_seconds)}, {limits.pids} tasks)",
        )


def too_small(limits: Limits, killed: Sequence[tuple[Outcome, Limits]], history: History | None) -> bool:
    """Return True if limits at least as large as these have ended the test before, in this run (`killed`: outcomes
    and limits) or in an earlier one. Such a profile is not suggested.
    """
    for outcome, had in killed:
        if outcome is Outcome.OOM and limits.memory_bytes <= had.memory_bytes:
            return True
        if outcome is Outcome.TIMEOUT and limits.timeout_seconds <= had.timeout_seconds:
            return True
    refused = None if history is None else history.memory_refused_bytes
    return refused is not None and limits.memory_bytes <= refused


@lru_cache(maxsize=64)
def _next_smaller(profile: Profile, others: tuple[Profile, ...]) -> Profile | None:
    """Return the largest of `others` that is smaller in memory or time and larger in no limit; None: there is
    none.
    """
    smaller = [
        other for other in others if _is_smaller(other.limits, profile.limits) and other.same_environment(profile)
    ]
    return max(smaller, key=lambda p: (p.limits.memory_bytes, p.limits.timeout_seconds, p.name), default=None)


def _is_smaller(limits: Limits, than: Limits) -> bool:
    no_larger = all(getattr(limits, name) <= getattr(than, name) for name in _NO_LARGER)
    less = limits.memory_bytes < than.memory_bytes or limits.timeout_seconds < than.timeout_seconds
    return no_larger and less
