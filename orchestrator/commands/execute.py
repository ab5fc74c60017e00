"""Assignment -> Attempt: runs it on the engine, reads its cases, judges it, and files what it left."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import StateError
from orchestrator.model import Attempt, Outcome, ResultsFormat, Severity
from orchestrator.suites.results import read_cases
from orchestrator.verdict.outcome import decide
from orchestrator.verdict.violations import violations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.commands.folders import RunFolder
    from orchestrator.engine.local import LocalExecutor
    from orchestrator.model import Assignment, Evidence, Profile, Violation


class Execute:
    """What the scheduler calls, from many threads."""

    def __init__(
        self,
        executor: LocalExecutor,
        folder: RunFolder,
        *,
        profiles: Mapping[str, Profile] | None = None,
        default_profile: str | None = None,
        judge_budgets: bool = True,
    ) -> None:
        """`profiles`: what a test could be given instead of its own, with this host's limits; of one that has
        `default_profile`, which nobody chose for it, it is not said that a smaller one would do.
        `judge_budgets` False: no violation is looked for.
        """
        self._executor = executor
        self._folder = folder
        self._profiles = tuple((profiles or {}).values())
        self._default_profile = default_profile
        self._judge_budgets = judge_budgets

    def __call__(self, assignment: Assignment, queue_seconds: float) -> Attempt:
        """One attempt, from the container's creation to the verdict. StateError: its files cannot be written."""
        try:
            return self._attempt(assignment, queue_seconds)
        except OSError as error:
            raise StateError(
                f"cannot keep what {assignment.test.id} left: {error}",
                remedy="make room or set state_dir in profiles.yaml; what was finished is recorded",
            ) from error

    def _attempt(self, assignment: Assignment, queue_seconds: float) -> Attempt:
        place = self._folder.of_attempt(assignment)
        evidence = self._executor.run(assignment, queue_seconds, place)
        command = assignment.test.command
        stdout = b""
        if command.results is ResultsFormat.TAP and evidence.stdout.path is not None:
            stdout = evidence.stdout.path.read_bytes()  # at most the log's cap
        report = read_cases(command, place / "outputs", stdout, _code(evidence))
        decision = decide(evidence, command=command, cases=report.cases, cases_problem=report.problem)
        attempt = Attempt(
            id=str(uuid.uuid4()),
            assignment=assignment,
            outcome=decision.outcome,
            message=decision.message,
            exit_code=decision.exit_code,
            signal=decision.signal,
            evidence=evidence,
            violations=self._violations(evidence, assignment.profile, decision.outcome),
            cases=report.cases,
            witnesses=decision.witnesses,
            folder=place,
        )
        if is_silent(attempt):
            attempt = replace(attempt, folder=None)
        self._folder.keep_metrics(attempt)
        return attempt

    def _violations(self, evidence: Evidence, profile: Profile, outcome: Outcome) -> tuple[Violation, ...]:
        if not self._judge_budgets:
            return ()
        others = () if profile.name == self._default_profile else self._profiles
        return violations(evidence, profile=profile, outcome=outcome, others=others)


def is_silent(attempt: Attempt) -> bool:
    """True for a test of a reused slot that passed and left nothing to look at: no folder is made for it. Making
    one with its files costs up to a fifth of what such a test takes (docs/design/coordinator.md).
    """
    evidence = attempt.evidence
    written = evidence.stdout.total_bytes or evidence.stderr.total_bytes or evidence.outputs
    notable = evidence.outputs_notes or any(v.severity is not Severity.NOTICE for v in attempt.violations)
    reused = attempt.assignment.profile.reuse > 1
    return reused and attempt.outcome is Outcome.PASSED and not written and not notable


def _code(evidence: Evidence) -> int | None:
    """Exit code of a test that came to its own end."""
    if evidence.agent is None or evidence.timed_out or evidence.interrupted:
        return None
    return evidence.agent.exit_code
