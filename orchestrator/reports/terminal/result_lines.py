"""Lines of tests on the terminal: verb, duration, memory and limit, CPU, profile, test, remark.

The functions return text and write nothing. `progress` prints the lines, `summary` the end of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING, Outcome
from orchestrator.model.results import Verb, counted_attempts
from orchestrator.model.violations import ViolationKind, by_severity
from orchestrator.text import (
    cells,
    format_bytes,
    format_seconds,
    format_stopwatch,
    one_line,
    plural,
    shorten_end,
    shorten_middle,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.evidence import Evidence, SlotUse
    from orchestrator.model.results import Attempt, TestResult
    from orchestrator.model.runs import Run
    from orchestrator.model.tests import Assignment
    from orchestrator.model.usage import Sample, Usage

VERB_COLUMNS = 10
PROFILE_COLUMNS = 8
"""Width of the profile column if the profiles of the plan are not known."""
REMARK_CHARACTERS = 400
BUSY_LOAD = 2.0
"""Load for each CPU from which the header calls the host busy."""
_MIN_ID_COLUMNS = 20
_SHARED_BYTES = 4 << 20
"""Shared memory below this is not shown: the agent and the page cache of its tests need this much."""
_INDENT = " " * (VERB_COLUMNS + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTest:
    """A running test. `started_seconds` is a time of `time.monotonic`."""

    assignment: Assignment
    started_seconds: float


def key_of(assignment: Assignment) -> str:
    """Return the key of a test in `snapshot()`: its id, with the repetition if there are several."""
    return assignment.key


def header_line(run: Run, tests: int, *, columns: int | None = None) -> str:
    """Return the first line of a run: `Run b0b38ba7   14 tests   docker 20.10  cgroup v1: kernel counters   2 cpus
    22 GiB`. Shorter where it would not fit into `columns`; warnings that do not fit are on a second line.
    """
    engine, host = run.engine, run.host
    version = ".".join(engine.version.split(".")[:2])
    group = "cgroup" if engine.cgroup_version is None else f"cgroup v{engine.cgroup_version}"
    counters = "kernel counters" if engine.local and not engine.rootless else "agent counters"
    limits = {"memory": engine.memory_limit, "cpu": engine.cpu_limit, "pids": engine.pids_limit}
    ignored = [name for name, enforced in limits.items() if not enforced]
    parts = [f"{engine.name} {version}", *(["rootless"] if engine.rootless else []), f"{group}: {counters}"]
    fields = [
        f"Run {run.short_id}",
        plural(tests, "test"),
        "  ".join(parts),
        f"{host.cpus:g} cpus {host.memory_bytes / 2**30:.0f} GiB",
    ]
    warnings = []
    if host.load is not None and host.load >= BUSY_LOAD * host.cpus:
        warnings.append(f"host busy: load {host.load:.0f} on {plural(round(host.cpus), 'CPU')}")
    if ignored:
        warnings.append(f"not enforced: {', '.join(ignored)}")
    fields, warnings = [one_line(field) for field in fields], [one_line(warning) for warning in warnings]
    width = sum(map(cells, [*fields, *warnings])) + 3 * (len(fields) + len(warnings) - 1)
    if columns is None or width <= columns:
        return "   ".join([*fields, *warnings])
    fields[2] = fields[2].removesuffix(" counters")
    line, warned = "  ".join(fields), "   ".join(warnings)
    wraps = warned and cells(line) + 2 + cells(warned) > columns
    return f"{line}\n    {warned}" if wraps else "  ".join(filter(None, (line, warned)))


def columns_of(
    verb: str,
    *,
    seconds: float,
    memory_bytes: int | None,
    memory_limit_bytes: int,
    cpu_seconds: float | None,
    profile: str,
    profile_columns: int,
    bound: str = "",
) -> str:
    """Return the columns in front of the test's id. `bound`: sign in front of the memory figure, if any."""
    used = bound + format_bytes(memory_bytes)
    memory = f"{used}/{format_bytes(memory_limit_bytes)}"
    cpu = f"cpu {format_seconds(cpu_seconds, decimals=1)}"
    return (
        f"{verb:>{VERB_COLUMNS}} [{format_stopwatch(seconds)}] {memory:>9}  {cpu:<8}  "
        f"{one_line(profile, 40):<{profile_columns}}  "
    )


def _result_columns(result: TestResult, profile_columns: int) -> str:
    attempt = result.final
    profile, usage = attempt.assignment.profile, attempt.evidence.usage
    return columns_of(
        result.verb.value,
        seconds=attempt.evidence.timings.test_seconds,
        memory_bytes=usage.memory_peak_bytes,
        memory_limit_bytes=attempt.memory_limit_bytes,
        cpu_seconds=usage.cpu_seconds,
        profile=profile.name,
        profile_columns=profile_columns,
        bound=memory_bound(usage),
    )


def memory_bound(usage: Usage) -> str:
    """Return the sign in front of the memory figure: `≤` or `≥` if it is only a bound, else nothing."""
    return "≤" if usage.memory_peak_is_upper_bound else "≥" if usage.memory_peak_is_lower_bound else ""


def shared_of(evidence: Evidence) -> str:
    """Return `reused` if earlier tests used the container, and the memory that was charged before the test, if it
    is not small, as in `reused, +33M shared`.
    """
    floor = evidence.usage.memory_floor_bytes
    shared = f"+{format_bytes(floor)} shared" if floor is not None and floor >= _SHARED_BYTES else ""
    return ", ".join(filter(None, ("reused" if evidence.slot.position > 1 else "", shared)))


def line(result: TestResult, *, profile_columns: int = PROFILE_COLUMNS, with_remark: bool = True) -> str:
    """Return the line of a finished test for pipes and CI logs."""
    text = _result_columns(result, profile_columns) + one_line(key_of(result.final.assignment))
    remark = remark_of(result) if with_remark else ""
    return "    ".join(filter(None, (text, shared_of(result.final.evidence), remark)))


def wrapped_lines(result: TestResult, *, columns: int, profile_columns: int = PROFILE_COLUMNS) -> tuple[str, ...]:
    """Return the lines of a finished test for a terminal of `columns`: the id is shortened in the middle, a long
    remark is on a second line.
    """
    remark = remark_of(result)
    text = line_without_remark(result, columns=columns, profile_columns=profile_columns)
    shared = shared_of(result.final.evidence)
    if shared and cells(text) + 4 + cells(shared) <= columns:
        text = f"{text}    {shared}"
    if not remark:
        return (text,)
    if cells(text) + 4 + cells(remark) <= columns:
        return (f"{text}    {remark}",)
    return (text, _INDENT + shorten_end(remark, max(columns - len(_INDENT), _MIN_ID_COLUMNS)))


def line_without_remark(result: TestResult, *, columns: int, profile_columns: int = PROFILE_COLUMNS) -> str:
    """Return the line of a finished test without its remark, for a terminal of `columns`."""
    front = _result_columns(result, profile_columns)
    return front + _fitting_id(key_of(result.final.assignment), front, columns)


def _fitting_id(name: str, front: str, columns: int | None) -> str:
    name = one_line(name)
    return name if columns is None else shorten_middle(name, max(columns - cells(front), _MIN_ID_COLUMNS))


def remark_of(result: TestResult) -> str:
    """Return the most important remark, and the number of further ones."""
    found = remarks(result)
    if not found:
        return ""
    first = one_line(found[0], REMARK_CHARACTERS)
    return first if len(found) == 1 else f"{first} (+{len(found) - 1} more)"


def remarks(result: TestResult) -> tuple[str, ...]:
    """Return all remarks on a result without duplicates, most important first. They are not yet escaped."""
    final = result.final
    found = [_attempts_remark(result), final.message]
    found += [violation.message for violation in by_severity(final.violations)]
    found += _leftovers(final)
    for name, log in (("stdout", final.evidence.stdout), ("stderr", final.evidence.stderr)):
        if log.truncated:
            found.append(
                f"{name} truncated: {format_bytes(log.kept_bytes)} of {format_bytes(log.total_bytes)} kept"
            )
    if final.witnesses < 2 and final.outcome is Outcome.PASSED:
        found.append("only one witness: the image has no shell for the agent")
    found += [f"sources disagree: {text}" for text in final.evidence.usage.disagreements.values()]
    found.append(_host_busy_remark(final))
    found += [*final.assignment.clamped, *final.evidence.outputs_notes, _confirmation_remark(result)]
    return tuple(dict.fromkeys(remark for remark in found if remark))


def _leftovers(attempt: Attempt) -> list[str]:
    leaks = [v.message for v in attempt.violations if v.kind is ViolationKind.PROCESS_LEAK]
    if attempt.evidence.agent is None or not leaks:
        return []
    left = [leftover.command_line for leftover in attempt.evidence.agent.leftovers]
    return [f"left running: {command}" for command in left if not any(command in leak for leak in leaks)]


def _attempts_remark(result: TestResult) -> str:
    """Return the remark on the outcomes of several attempts."""
    if len(result.attempts) < 2:
        return ""
    attempts = counted_attempts(result.attempts)
    first, final = attempts[0], result.final
    small, large = first.assignment.profile.name, final.assignment.profile.name
    if result.verb is Verb.UNDERSIZED:
        peak = format_bytes(final.evidence.usage.memory_peak_bytes)
        took = format_seconds(final.evidence.timings.test_seconds)
        return f"needs {large}: {first.outcome} under {small}, passed with {peak} in {took}"
    if result.verb is Verb.RUNAWAY:
        return f"{first.outcome} under {small}, {final.outcome} under {large} too: a larger profile does not help"
    if result.flaky:
        failed = [attempt for attempt in attempts if attempt.outcome is not Outcome.PASSED]
        why = failed[0].message or failed[0].outcome.value
        return f"failed {len(failed)} of {len(attempts)} attempts: {why}"
    overruled = result.overruled
    if overruled is None or final.outcome in FAILING:
        return ""
    why = overruled.message or overruled.outcome.value
    how, where = "in a fresh container", f"failed {_where(overruled.evidence.slot)}"
    if overruled.evidence.starved:
        how, where = "when it ran alone", "before that"
    return f"{final.outcome} {how}, {where}: {why}"


def _confirmation_remark(result: TestResult) -> str:
    """Return the remark on a failure in a reused slot: whether it was confirmed in a fresh one."""
    if result.final.outcome not in FAILING:
        return ""
    if result.overruled is not None and result.overruled.evidence.starved:
        return "confirmed by a run alone after a timeout on a busy host"
    if result.overruled is not None:
        return f"confirmed in a fresh container after it had failed {_where(result.overruled.evidence.slot)}"
    slot = result.final.evidence.slot
    return f"failed {_where(slot)}, not confirmed in a fresh one: the run was stopped" if slot.reused else ""


def _host_busy_remark(attempt: Attempt) -> str:
    """Return the remark on a busy host for a test whose duration was close to its timeout."""
    evidence, limit = attempt.evidence, attempt.assignment.profile.limits.timeout_seconds
    near = attempt.assignment.profile.thresholds.time_near_ratio or 1.0
    if attempt.outcome is Outcome.TIMEOUT or evidence.timings.test_seconds < near * limit:
        return ""
    return evidence.host_busy


def _where(slot: SlotUse) -> str:
    if slot.position > 1:
        return f"as test {slot.position} of a reused one"
    return "forked from a preloaded process"


def running_lines(
    running: Sequence[RunningTest],
    samples: Mapping[str, Sample],
    *,
    now_seconds: float,
    columns: int | None = None,
    limit: int | None = None,
    profile_columns: int = PROFILE_COLUMNS,
) -> list[str]:
    """Return the lines of running tests, longest first, with their current memory and CPU seconds.

    `samples` has the latest sample of each test by `key_of`; a test without one shows `?`.
    """
    longest_first = sorted(running, key=lambda test: test.started_seconds)
    shown = longest_first if limit is None else longest_first[:limit]
    lines = [_running_line(test, samples, now_seconds, columns, profile_columns) for test in shown]
    if len(shown) < len(longest_first):
        lines.append(f"{_INDENT}{ELSE_RUNNING.format(len(longest_first) - len(shown))}")
    return lines


ELSE_RUNNING = "and {} more running"


def _running_line(
    test: RunningTest,
    samples: Mapping[str, Sample],
    now_seconds: float,
    columns: int | None,
    profile_columns: int,
) -> str:
    profile, key = test.assignment.profile, key_of(test.assignment)
    sample = samples.get(key)
    front = columns_of(
        "running",
        seconds=max(now_seconds - test.started_seconds, 0.0),
        memory_bytes=sample.memory_bytes if sample else None,
        memory_limit_bytes=profile.limits.memory_bytes,
        cpu_seconds=sample.cpu_seconds if sample else None,
        profile=profile.name,
        profile_columns=profile_columns,
    )
    return front + _fitting_id(key, front, columns)
