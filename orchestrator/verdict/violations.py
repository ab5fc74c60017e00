"""Find the budgets that an attempt broke. Pure computation.

Violations are separate from the outcome: a test can pass and still break a budget. A figure that was not measured
breaks none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.outcomes import Outcome
from orchestrator.model.violations import Severity, Violation, ViolationKind
from orchestrator.text import format_ratio, plural, seconds_text, size_text, two_durations, two_sizes
from orchestrator.verdict.leaks import full_places, leaked_objects, leaks
from orchestrator.verdict.oversized import oversized

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestrator.model.evidence import Evidence
    from orchestrator.model.profiles import Profile

_ORDER = {kind: place for place, kind in enumerate(ViolationKind)}
_NOT_CHECKED = frozenset({Outcome.INFRA, Outcome.INTERRUPTED})
"""Outcomes for which usage is not checked: the test did not run to its end, so its figures are not its usage."""


def violations(
    evidence: Evidence, *, profile: Profile, outcome: Outcome, others: Iterable[Profile] = ()
) -> tuple[Violation, ...]:
    """Return all broken budgets in the order of `ViolationKind`.

    `profile` has the limits that were in effect. `others` are the profiles that could be suggested instead; empty:
    none is suggested.
    """
    found: list[Violation] = []
    if outcome not in _NOT_CHECKED:
        found += _memory(evidence, profile, outcome)
        found += _cpu(evidence, profile)
        found += _time(evidence, profile, outcome)
        found += oversized(evidence, profile, outcome, others)
        found += _pids(evidence, profile)
        found += leaks(evidence, profile, outcome)
        found += full_places(evidence, profile)
        found += _disk(evidence, profile)
        found += _output(evidence, profile)
    found += leaked_objects(evidence)
    return tuple(sorted(found, key=lambda violation: _ORDER[violation.kind])) if found else ()


def _memory(evidence: Evidence, profile: Profile, outcome: Outcome) -> Iterator[Violation]:
    usage, limit = evidence.usage, profile.limits.memory_bytes
    peak = usage.memory_peak_bytes
    if outcome is Outcome.OOM:
        yield _bytes(
            ViolationKind.MEMORY_OVER,
            Severity.ERROR,
            limit if peak is None else peak,
            limit,
            f"needed more than its memory limit of {size_text(limit)} and was killed by the kernel",
        )
        return
    if usage.oom_kills:
        processes = plural(usage.oom_kills, "process", "processes")
        yield Violation(
            kind=ViolationKind.CHILD_OOM,
            severity=Severity.ERROR,
            measured=usage.oom_kills,
            limit=0,
            unit="count",
            message=f"the kernel killed {processes} of the test at the memory limit of {size_text(limit)}, "
            f"but the test ended as {outcome.value}",
        )
    if peak is not None and not usage.memory_peak_is_upper_bound:
        yield from _memory_peak(profile, peak, killed=bool(usage.oom_kills))


def _memory_peak(profile: Profile, peak: int, *, killed: bool) -> Iterator[Violation]:
    """Yield a violation for a peak near or at the limit. Page cache does not count, because the kernel reclaims
    it.

    `killed`: the kernel killed a process for lack of memory. The limit was then reached, even if the peak is
    lower, because the peak does not include memory that was charged before the test.
    """
    limit, near = profile.limits.memory_bytes, profile.thresholds.memory_near_ratio
    peak_text, limit_text = two_sizes(peak, limit)
    if peak >= limit or killed:
        message = f"memory reached its limit: {peak_text} of {limit_text}"
        kind = ViolationKind.MEMORY_OVER
    elif near is not None and peak >= near * limit:
        message = f"memory reached {format_ratio(peak / limit)} of its limit: {peak_text} of {limit_text}"
        kind = ViolationKind.MEMORY_NEAR
    else:
        return
    yield _bytes(kind, Severity.WARNING, peak, limit, message)


def _cpu(evidence: Evidence, profile: Profile) -> Iterator[Violation]:
    usage, thresholds = evidence.usage, profile.thresholds
    budget = thresholds.cpu_seconds
    if budget is not None and usage.cpu_seconds is not None and usage.cpu_seconds > budget:
        used, allowed = two_durations(usage.cpu_seconds, budget)
        yield Violation(
            kind=ViolationKind.CPU_BUDGET,
            severity=Severity.WARNING,
            measured=usage.cpu_seconds,
            limit=budget,
            unit="seconds",
            message=f"used {used} of CPU time; its budget is {allowed}",
        )
    duration, throttled = evidence.counted_seconds, usage.throttled_seconds
    if thresholds.throttled_ratio is None or throttled is None or duration <= 0:
        return
    if throttled > thresholds.throttled_ratio * duration:
        yield Violation(
            kind=ViolationKind.CPU_THROTTLED,
            severity=Severity.WARNING,
            measured=throttled / duration,
            limit=thresholds.throttled_ratio,
            unit="ratio",
            message=f"was throttled for {seconds_text(throttled)} (summed over CPUs) "
            f"of {seconds_text(duration)} by its limit of {profile.limits.cpus:g} CPUs",
        )


def _time(evidence: Evidence, profile: Profile, outcome: Outcome) -> Iterator[Violation]:
    duration, limit = evidence.counted_seconds, profile.limits.timeout_seconds
    near = profile.thresholds.time_near_ratio
    if outcome is Outcome.TIMEOUT or evidence.timed_out:
        kind, severity = ViolationKind.TIME_OVER, Severity.ERROR
        message = f"did not end within its time limit of {seconds_text(limit)}"
    elif near is not None and duration >= near * limit:
        kind, severity = ViolationKind.TIME_NEAR, Severity.WARNING
        took, allowed = two_durations(duration, limit)
        message = f"took {format_ratio(duration / limit)} of its time limit: {took} of {allowed}"
    else:
        return
    message += f"; {evidence.host_busy}" if evidence.host_busy else ""
    yield Violation(kind=kind, severity=severity, measured=duration, limit=limit, unit="seconds", message=message)


def _pids(evidence: Evidence, profile: Profile) -> Iterator[Violation]:
    """Yield a violation for a refused fork, or for a peak near the limit. The peak includes threads."""
    usage, limit, near = evidence.usage, profile.limits.pids, profile.thresholds.pids_near_ratio
    if usage.pids_limit_hits:
        severity, measured = Severity.ERROR, max(usage.pids_peak or 0, limit)
        forks = plural(usage.pids_limit_hits, "time")
        message = f"was refused a new process or thread {forks} at its limit of {limit}"
    elif (
        near is not None
        and usage.pids_peak is not None
        and "pids_peak" not in usage.upper_bounds  # the peak may be that of an earlier test in the same container
        and usage.pids_peak >= near * limit
    ):
        severity, measured = Severity.WARNING, usage.pids_peak
        message = f"had {usage.pids_peak} processes and threads at once; its limit is {limit}"
    else:
        return
    yield Violation(
        kind=ViolationKind.PIDS_LIMIT,
        severity=severity,
        measured=measured,
        limit=limit,
        unit="count",
        message=message,
    )


def _output(evidence: Evidence, profile: Profile) -> Iterator[Violation]:
    """Yield a violation for each truncated stream; if there is none, for a total output above the threshold."""
    threshold = profile.thresholds.log_bytes
    total = evidence.stdout.total_bytes + evidence.stderr.total_bytes
    cut = [
        (name, log) for name, log in (("stdout", evidence.stdout), ("stderr", evidence.stderr)) if log.truncated
    ]
    for name, log in cut:
        written, kept = two_sizes(log.total_bytes, log.kept_bytes)
        yield _bytes(
            ViolationKind.OUTPUT_FLOOD,
            Severity.WARNING,
            log.total_bytes,
            profile.limits.log_bytes,
            f"wrote {written} to {name}: only {kept} were kept",
        )
    if not cut and threshold is not None and total > threshold:
        yield _bytes(
            ViolationKind.OUTPUT_FLOOD,
            Severity.WARNING,
            total,
            threshold,
            "wrote {} of output; the threshold is {}".format(*two_sizes(total, threshold)),
        )


def _disk(evidence: Evidence, profile: Profile) -> Iterator[Violation]:
    """Yield a violation for writes to disk, which only a volume of the image makes possible."""
    written, threshold = evidence.usage.write_bytes, profile.thresholds.disk_write_bytes
    if written is not None and threshold is not None and written > threshold:
        yield _bytes(
            ViolationKind.DISK_WRITE,
            Severity.WARNING,
            written,
            threshold,
            "wrote {} to disk; the threshold is {}".format(*two_sizes(written, threshold)),
        )


def _bytes(kind: ViolationKind, severity: Severity, measured: float, limit: float, message: str) -> Violation:
    return Violation(kind=kind, severity=severity, measured=measured, limit=limit, unit="bytes", message=message)
