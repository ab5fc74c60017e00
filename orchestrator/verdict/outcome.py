"""Why a test ended: from the evidence of two witnesses to one `Outcome`. Pure.

Two must agree before a test counts as passed: the agent inside (its end record) and the engine outside
(state, exit code, timestamps). In doubt the outcome is `infra`: nothing is known about the test.
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
# The engine writes down the start when the runtime has answered, the end when the kernel has spoken: a program
# of a few milliseconds has ended "before" it started (seen on Docker 20.10), by as much as the engine is behind.
_FIRST_SANE_YEAR = 2000
"""Engines write "never" as year 1, and an unset clock says 1970."""
_SHELL_CODES = {126: "the command could not be executed", 127: "the command was not found"}
_UNEXPECTED = {
    "created": "the container was never started",
    "gone": "the container was removed externally",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict on one attempt."""

    outcome: Outcome
    message: str
    """Why, in one line; empty for a pass."""
    exit_code: int | None
    """The test's; None where no witness knows it."""
    signal: int | None = None
    witnesses: int = 2


def decide(
    evidence: Evidence, *, command: Command, cases: tuple[CaseResult, ...], cases_problem: str | None
) -> Decision:
    """Judge an attempt in a container that ran this test alone, so that its exit code is the test's.

    `cases_problem`: why the runner's results could not be read; exit code 0 without them is no pass.
    """
    outcome, message = (
        _stopped(evidence)
        or _contradicted(evidence)
        or _doubted(evidence)
        or _ended(evidence, command, cases, cases_problem)
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


def _stopped(evidence: Evidence) -> tuple[Outcome, str] | None:
    """Ended by us, or never seen."""
    if evidence.interrupted:
        return Outcome.INTERRUPTED, "stopped before it had ended"
    if evidence.engine_failure is not None:
        return Outcome.INFRA, evidence.engine_failure
    if evidence.attestation is not None and evidence.attestation.mismatches:
        return Outcome.INFRA, f"the container was not as asked for: {'; '.join(evidence.attestation.mismatches)}"
    if evidence.timed_out:
        if _exit_code(evidence) == _KILLED and (evidence.usage.oom_kills or 0) > 0:
            return Outcome.OOM, "killed for lack of memory; the rest was ended at the time limit"
        said = f"still running at its time limit, ended after {evidence.timings.test_seconds:.1f} s"
        return Outcome.TIMEOUT, "; ".join(text for text in (said, evidence.host_busy) if text)
    return None


def _contradicted(evidence: Evidence) -> tuple[Outcome, str] | None:
    """Infra where the kernel says of the test's process what the agent does not."""
    told = evidence.kernel_exit_code
    if evidence.agent is None or told in (None, evidence.agent.exit_code):
        return None
    return Outcome.INFRA, f"two exit codes: agent's record {evidence.agent.exit_code}, kernel {told}"


def _doubted(evidence: Evidence) -> tuple[Outcome, str] | None:
    """Infra where the witnesses are not enough or do not agree."""
    engine = evidence.engine
    if evidence.kept and engine is not None and evidence.agent is not None:
        # it has no exit code yet: that it still runs is what the second witness has to say
        return (
            None
            if engine.status == "running"
            else (Outcome.INFRA, f"the container is {engine.status}, not running")
        )
    problem = "the engine did not say how the container ended" if engine is None else _state_problem(engine)
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
    """What is wrong with the state of a container that should have run and ended."""
    detail = f": {engine.error}" if engine.error else ""
    if engine.status != "exited":
        return _UNEXPECTED.get(engine.status, f"the container is {engine.status}, not exited") + detail
    if engine.exit_code is None:
        return f"the engine knows no exit code{detail}"
    started, finished = engine.started_at, engine.finished_at
    if started is None or finished is None or min(started.year, finished.year) < _FIRST_SANE_YEAR:
        return f"the engine does not say when the container started and ended{detail}"
    if finished < started - _START_LAG:
        return f"by the engine's clock the container ended before it started{detail}"
    return None


def _out_of_memory(evidence: Evidence) -> bool:
    """True if the kernel killed for lack of memory. Its own counter decides. Where nobody could read that,
    the engine's flag counts, but only with a peak at the limit, because the flag alone is known to lie.
    """
    kills = evidence.usage.oom_kills
    if kills is not None:
        return kills > 0
    limit = evidence.attestation.effective_memory_bytes if evidence.attestation else None
    peak = evidence.usage.memory_charged_peak_bytes
    flagged = evidence.engine is not None and evidence.engine.oom_killed is True
    return flagged and limit is not None and peak is not None and peak >= limit


def _ended(
    evidence: Evidence, command: Command, cases: tuple[CaseResult, ...], cases_problem: str | None
) -> tuple[Outcome, str]:
    """By the exit code that the witnesses agree on."""
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
    said = [f"exit code {code}", _SHELL_CODES.get(code or 0), cases_problem]
    return Outcome.FAILED, ": ".join(part for part in said if part)


def _exited_zero(
    cases: tuple[CaseResult, ...], failing: CaseResult | None, cases_problem: str | None
) -> tuple[Outcome, str]:
    """Exit code 0 alone is no pass: the results must be there, and must say the same."""
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
    """The case and the first line of what it says; the whole of it stands in the output and in the results."""
    first = next((line for line in case.message.splitlines() if line.strip()), "")
    return f"{case.name}: {first or case.outcome.value}"


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:  # a real-time signal between the two that have names
        return f"signal {number}"
