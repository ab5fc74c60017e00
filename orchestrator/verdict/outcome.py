"""Decide the outcome of an attempt from the evidence of two witnesses. Pure computation.

A test passes only if both agree: the agent inside the container (its end record) and the engine outside (state,
exit code, timestamps). In doubt the outcome is `infra`: the result of the test is unknown.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import FAILING_CASES, CaseOutcome, Outcome
from orchestrator.text import MESSAGE_CHARACTERS, one_line

if TYPE_CHECKING:
    from orchestrator.model.evidence import EngineState, Evidence
    from orchestrator.model.outcomes import CaseResult
    from orchestrator.model.tests import Command

_KILLED = 128 + signal.SIGKILL
_SIGNALS = range(1, 65)
_START_LAG = timedelta(seconds=30)
"""Time by which the recorded end may be before the recorded start. The engine records the start when the runtime
has answered, and the end when the kernel reports it, so a program of a few milliseconds can seem to end first
(seen on Docker 20.10).
"""
_FIRST_SANE_YEAR = 2000
"""First year of a valid timestamp: engines write "never" as year 1, and a clock that was not set starts in 1970.
"""
_SHELL_CODES = {126: "the command could not be executed", 127: "the command was not found"}
_UNEXPECTED = {
    "created": "the container was never started",
    "gone": "the container was removed externally",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of one attempt, with the reason."""

    outcome: Outcome
    message: str
    """Reason for the outcome in one line; empty for a pass."""
    exit_code: int | None
    """Exit code of the test; None if no witness reported it."""
    signal: int | None = None
    witnesses: int = 2


def decide(
    evidence: Evidence, *, command: Command, cases: tuple[CaseResult, ...], cases_problem: str | None
) -> Decision:
    """Return the outcome of an attempt.

    `cases` are the results that the suite's runner wrote. `cases_problem` is the reason why they could not be
    read, or None; without readable results, exit code 0 does not count as passed.
    """
    outcome, message = (
        _ended_or_unobserved(evidence)
        or _kernel_disagrees(evidence)
        or _witnesses_disagree(evidence)
        or _by_exit_code(evidence, command, cases, cases_problem)
    )
    code = _exit_code(evidence)
    return Decision(
        outcome=outcome,
        message=one_line(" ".join(message.split()), MESSAGE_CHARACTERS),
        exit_code=code,
        signal=code - 128 if outcome in {Outcome.CRASHED, Outcome.OOM} and code and code > 128 else None,
        witnesses=(evidence.agent is not None) + (evidence.engine is not None),
    )


def _exit_code(evidence: Evidence) -> int | None:
    if evidence.agent is not None:
        return evidence.agent.exit_code
    if evidence.engine is not None and evidence.engine.status == "exited":
        return evidence.engine.exit_code
    return None


def _ended_or_unobserved(evidence: Evidence) -> tuple[Outcome, str] | None:
    """Return the outcome of an attempt that orch ended or could not observe; None for any other."""
    if evidence.interrupted:
        return Outcome.INTERRUPTED, "stopped before its end"
    if evidence.engine_failure is not None:
        return Outcome.INFRA, evidence.engine_failure
    if evidence.attestation is not None and evidence.attestation.mismatches:
        return (
            Outcome.INFRA,
            f"the container differs from what was requested: {'; '.join(evidence.attestation.mismatches)}",
        )
    if evidence.timed_out:
        if _exit_code(evidence) == _KILLED and (evidence.usage.oom_kills or 0) > 0:
            return Outcome.OOM, "killed for lack of memory; its other processes were ended at the time limit"
        text = f"still running at its time limit, ended after {evidence.timings.test_seconds:.1f} s"
        return Outcome.TIMEOUT, "; ".join(part for part in (text, evidence.host_busy) if part)
    return None


def _kernel_disagrees(evidence: Evidence) -> tuple[Outcome, str] | None:
    """Return INFRA if kernel and agent report different exit codes of the test's process; else None."""
    code = evidence.kernel_exit_code
    if evidence.agent is None or code in (None, evidence.agent.exit_code):
        return None
    return Outcome.INFRA, f"two exit codes: agent's record {evidence.agent.exit_code}, kernel {code}"


def _witnesses_disagree(evidence: Evidence) -> tuple[Outcome, str] | None:
    """Return INFRA if a witness is missing or the two disagree; None if they suffice.

    A container that was killed for memory together with its agent is OOM.
    """
    engine = evidence.engine
    if evidence.kept and engine is not None and evidence.agent is not None:
        # it still runs, so the engine has no exit code; that it runs is the evidence of the second witness
        return (
            None
            if engine.status == "running"
            else (Outcome.INFRA, f"the container is {engine.status}, not running")
        )
    problem = "the engine did not report how the container ended" if engine is None else _state_problem(engine)
    if problem is not None or engine is None:
        return Outcome.INFRA, problem or ""
    if evidence.agent is not None and evidence.agent.exit_code != engine.exit_code:
        return (
            Outcome.INFRA,
            f"two exit codes: agent's record {evidence.agent.exit_code}, engine {engine.exit_code}",
        )
    if evidence.agent is None and evidence.agent_expected:
        if engine.exit_code == _KILLED and _out_of_memory(evidence):
            return Outcome.OOM, "killed for lack of memory, the container's main process too"
        return (
            Outcome.INFRA,
            f"the container ended without the agent's end record (exit code {engine.exit_code})",
        )
    return None


def _state_problem(engine: EngineState) -> str | None:
    """Return what is wrong with the state of a container that should have run and ended; None: nothing."""
    detail = f": {engine.error}" if engine.error else ""
    if engine.status != "exited":
        return _UNEXPECTED.get(engine.status, f"the container is {engine.status}, not exited") + detail
    if engine.exit_code is None:
        return f"the engine reports no exit code{detail}"
    started, finished = engine.started_at, engine.finished_at
    if started is None or finished is None or min(started.year, finished.year) < _FIRST_SANE_YEAR:
        return f"the engine does not report when the container started and ended{detail}"
    if finished < started - _START_LAG:
        return f"by the engine's clock the container ended before it started{detail}"
    return None


def _out_of_memory(evidence: Evidence) -> bool:
    """Return True if the kernel killed a process for lack of memory.

    The kernel's own counter decides. If it could not be read, the engine's flag counts, but only with a peak at
    the limit, because the flag alone can be wrong.
    """
    kills = evidence.usage.oom_kills
    if kills is not None:
        return kills > 0
    limit = evidence.attestation.effective_memory_bytes if evidence.attestation else None
    peak = evidence.usage.memory_charged_peak_bytes
    flagged = evidence.engine is not None and evidence.engine.oom_killed is True
    return flagged and limit is not None and peak is not None and peak >= limit


def _by_exit_code(
    evidence: Evidence, command: Command, cases: tuple[CaseResult, ...], cases_problem: str | None
) -> tuple[Outcome, str]:
    """Return the outcome by the exit code that the witnesses agree on, and by the results."""
    code = _exit_code(evidence)
    if code == _KILLED and _out_of_memory(evidence):
        return Outcome.OOM, "killed for lack of memory"
    if code is not None and code - 128 in _SIGNALS:
        return Outcome.CRASHED, f"ended by {_signal_name(code - 128)}"
    if code in command.skip_exit_codes:
        return Outcome.SKIPPED, f"exit code {code}: nothing was run"
    failing = next((case for case in cases if case.outcome in FAILING_CASES), None)
    if code == 0:
        return _exited_zero(cases, failing, cases_problem)
    if failing is not None:
        return Outcome.FAILED, _case_message(failing)
    parts = [f"exit code {code}", _SHELL_CODES.get(code or 0), cases_problem]
    return Outcome.FAILED, ": ".join(part for part in parts if part)


def _exited_zero(
    cases: tuple[CaseResult, ...], failing: CaseResult | None, cases_problem: str | None
) -> tuple[Outcome, str]:
    """Return the outcome of exit code 0: a pass only if the results could be read and no case failed."""
    if cases_problem is not None:
        return Outcome.FAILED, cases_problem
    if failing is not None:
        return Outcome.FAILED, f"exit code 0, but {_case_message(failing)}"
    if cases and all(case.outcome is CaseOutcome.SKIPPED for case in cases):
        return Outcome.SKIPPED, cases[0].message or (
            "skipped" if len(cases) == 1 else f"all {len(cases)} cases skipped"
        )
    return Outcome.PASSED, ""


def _case_message(case: CaseResult) -> str:
    """Return the name of the case and the first line of its message; the output and the results have all of it."""
    first = next((line for line in case.message.splitlines() if line.strip()), "")
    return f"{case.name}: {first or case.outcome.value}"


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:  # a real-time signal without a name
        return f"signal {number}"
