"""Choose the larger limits for one more attempt of a test that its own limits ended.

The rules are in docs/design/scheduling/attempts.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Limits
from orchestrator.model.usage import THROTTLED_TIMEOUT_RATIO
from orchestrator.text import size_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model.profiles import Profile
    from orchestrator.model.results import Attempt
    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Budget


def limits_killed(attempt: Attempt) -> bool:
    """Return whether the attempt ended by OOM, or by a timeout with the CPU throttled for a quarter of the time or
    more.
    """
    if attempt.outcome is Outcome.OOM:
        return True
    throttled_seconds = attempt.evidence.usage.throttled_seconds
    duration_seconds = attempt.evidence.counted_seconds
    if attempt.outcome is not Outcome.TIMEOUT or throttled_seconds is None or duration_seconds <= 0:
        return False
    return throttled_seconds / duration_seconds >= THROTTLED_TIMEOUT_RATIO


def next_profile(
    profiles: Mapping[str, Profile], current: Profile, *, outcome: Outcome = Outcome.OOM
) -> Profile | None:
    """Return the next larger profile, by memory, then time, that has more of the missing resource: memory after an
    OOM, time or CPUs after a timeout. None: there is none.
    """

    def is_up(profile: Profile) -> bool:
        if outcome is Outcome.OOM:
            return profile.limits.memory_bytes > current.limits.memory_bytes
        more_time = profile.limits.timeout_seconds > current.limits.timeout_seconds
        more_cpus = profile.limits.cpus > current.limits.cpus
        return _size(profile) > _size(current) and (more_time or more_cpus)

    return min(filter(is_up, profiles.values()), key=lambda p: (*_size(p), p.name), default=None)


def promote(
    assignment: Assignment, outcome: Outcome, *, profiles: Mapping[str, Profile], budget: Budget
) -> Assignment | None:
    """Return the assignment under the next larger profile's limits, none lower than its own, clamped to the
    budget.

    It keeps image, network and capabilities: larger limits must not change the environment, and a test must not
    get a network by using memory. The history is dropped, because it is of the smaller profile. None: there is no
    larger profile.
    """
    current = assignment.profile
    reachable = {name: _clamp(profile, budget) for name, profile in profiles.items()}
    target = next_profile(reachable, current, outcome=outcome)
    if target is None:
        return None
    limits = _at_least(target.limits, current.limits)
    notice = _notice(profiles[target.name].limits, target.limits, target.name)
    return replace(
        assignment,
        profile=replace(current, name=target.name, description=target.description, limits=limits, reuse=1),
        reason=f"promoted from {current.name} after {outcome.value}",
        clamped=assignment.clamped if notice is None else (*assignment.clamped, notice),
        attempt=assignment.attempt + 1,
        history=None,
    )


def _size(profile: Profile) -> tuple[int, float, float]:
    limits = profile.limits
    return limits.memory_bytes, limits.timeout_seconds, limits.cpus


def _clamp(profile: Profile, budget: Budget) -> Profile:
    limits = profile.limits
    if limits.cpus <= budget.cpus and limits.memory_bytes <= budget.memory_bytes:
        return profile
    cpus, memory_bytes = min(limits.cpus, budget.cpus), min(limits.memory_bytes, budget.memory_bytes)
    return replace(profile, limits=replace(limits, cpus=cpus, memory_bytes=memory_bytes))


def _notice(asked: Limits, granted: Limits, name: str) -> str | None:
    lowered = []
    if granted.memory_bytes < asked.memory_bytes:
        lowered.append(f"memory {size_text(asked.memory_bytes)} -> {size_text(granted.memory_bytes)}")
    if granted.cpus < asked.cpus:
        lowered.append(f"cpus {asked.cpus:g} -> {granted.cpus:g}")
    return f"profile {name}: {', '.join(lowered)}: this host grants no more" if lowered else None


def _at_least(limits: Limits, floor: Limits) -> Limits:
    """Return the larger of both for each limit, because a rule may have raised one above the next profile's."""
    return Limits(
        cpus=max(limits.cpus, floor.cpus),
        memory_bytes=max(limits.memory_bytes, floor.memory_bytes),
        timeout_seconds=max(limits.timeout_seconds, floor.timeout_seconds),
        tmpfs_bytes=max(limits.tmpfs_bytes, floor.tmpfs_bytes),
        tmpfs_inodes=max(limits.tmpfs_inodes, floor.tmpfs_inodes),
        outputs_bytes=max(limits.outputs_bytes, floor.outputs_bytes),
        shm_bytes=max(limits.shm_bytes, floor.shm_bytes),
        pids=max(limits.pids, floor.pids),
        nofile=max(limits.nofile, floor.nofile),
        log_bytes=max(limits.log_bytes, floor.log_bytes),
    )
