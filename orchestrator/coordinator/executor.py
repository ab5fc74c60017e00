"""Run one attempt of an assignment on the engine, read its cases, judge it and write its metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.coordinator.run_folder import needs_no_metrics_file
from orchestrator.database.rows.encoding import attempt_id
from orchestrator.errors import StateError
from orchestrator.measure.calibration import NO_CALIBRATIONS, Calibrations
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import Attempt
from orchestrator.model.suites import ResultsFormat
from orchestrator.verdict.outcome import decide
from orchestrator.verdict.oversized import too_small
from orchestrator.verdict.violations import violations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from orchestrator.coordinator.run_folder import RunFolder
    from orchestrator.engine.slots.executor import LocalExecutor
    from orchestrator.engine.slots.lane import SlotLane
    from orchestrator.model.evidence import Evidence
    from orchestrator.model.profiles import Limits, Profile
    from orchestrator.model.tests import Assignment, Command, TestId
    from orchestrator.model.violations import Violation
    from orchestrator.suites.results import CaseReport


class AttemptRunner:
    """Runs and judges attempts for the scheduler. All methods may be called from any thread."""

    def __init__(
        self,
        executor: LocalExecutor,
        folder: RunFolder,
        *,
        calibrations: Calibrations = NO_CALIBRATIONS,
        profiles: Mapping[str, Profile] | None = None,
        default_profile: str | None = None,
        judge_budgets: bool = True,
    ) -> None:
        """Prepare to run attempts; `folder` gets their files.

        `profiles` are those that could be suggested instead of a test's own, with the limits of this host. For a
        test under `default_profile`, which nobody chose for it, no smaller profile is suggested. With
        `judge_budgets` False, no violations are detected.
        """
        self._executor = executor
        self._calibrations = calibrations
        self._folder = folder
        self._profiles = tuple((profiles or {}).values())
        self._default_profile = default_profile
        self._judge_budgets = judge_budgets
        self._killed: dict[TestId, list[tuple[Outcome, Limits]]] = {}
        """The outcomes of each test that a limit ended in this run, with the limits that were in effect."""

    def lane(self) -> AttemptLane:
        """Return a new lane, which runs tests one after another."""
        return AttemptLane(self, self._executor.lane(self._calibrations))

    def prepare(self, assignments: Sequence[Assignment]) -> None:
        """Prepare for the tests that are likely to start next, in this order."""
        self._executor.prepare(assignments)

    def folder_of(self, assignment: Assignment) -> Path:
        """Return the path of the attempt's folder."""
        return self._folder.attempt_folder(assignment)

    def look_for_room(self, assignment: Assignment) -> None:
        """Move to another folder for the following attempts if the disk has no room for the files of this one."""
        limits = assignment.profile.limits
        self._folder.move_elsewhere(unless_free_bytes=limits.outputs_bytes + 2 * limits.log_bytes)

    def judge(self, assignment: Assignment, place: Path, evidence: Evidence) -> Attempt:
        """Return the attempt with its outcome and violations, and write its metrics to the folder `place`."""
        command = assignment.test.command
        report = _read_report(command, place, evidence)
        cases, problem = (report.cases, report.problem) if report is not None else ((), None)
        decision = decide(evidence, command=command, cases=cases, cases_problem=problem)
        absent = decision.outcome is Outcome.FAILED and not cases and _lacks_case(assignment, evidence)
        if absent:
            message = f"pytest finds no case {assignment.test.id.case!r} in this file"
            decision = replace(decision, outcome=Outcome.SKIPPED, message=message)
        attempt = Attempt(
            id=attempt_id(),
            assignment=assignment,
            outcome=decision.outcome,
            message=decision.message,
            exit_code=decision.exit_code,
            signal=decision.signal,
            evidence=evidence,
            violations=self._violations(evidence, assignment, decision.outcome),
            cases=cases,
            witnesses=decision.witnesses,
            folder=place,
            absent=absent,
        )
        if not needs_no_metrics_file(attempt):
            self._folder.write_metrics(attempt)
        elif not (evidence.stdout.total_bytes or evidence.stderr.total_bytes):
            attempt = replace(attempt, folder=None)
        return attempt

    def _violations(self, evidence: Evidence, assignment: Assignment, outcome: Outcome) -> tuple[Violation, ...]:
        if not self._judge_budgets:
            return ()
        profile, test = assignment.profile, assignment.test.id
        if outcome in (Outcome.OOM, Outcome.TIMEOUT):
            self._killed.setdefault(test, []).append((outcome, profile.limits))
        others: Sequence[Profile] = ()
        if profile.name != self._default_profile:
            killed = tuple(self._killed.get(test, ()))
            others = tuple(
                other for other in self._profiles if not too_small(other.limits, killed, assignment.history)
            )
        return violations(evidence, profile=profile, outcome=outcome, others=others)


def _read_report(command: Command, place: Path, evidence: Evidence) -> CaseReport | None:
    if command.results is ResultsFormat.EXIT_CODE:
        return None
    from orchestrator.suites.results import read_cases  # takes 80 ms, and many suites report no cases

    stdout = b""
    if command.results is ResultsFormat.TAP and evidence.stdout.path is not None:
        stdout = evidence.stdout.path.read_bytes()  # at most the log's cap
    return read_cases(command, place / "outputs", stdout, _code(evidence))


def _lacks_case(assignment: Assignment, evidence: Evidence) -> bool:
    from orchestrator.suites.pytest import lacks_case

    test = assignment.test
    return test.command.results is ResultsFormat.JUNIT and lacks_case(
        test.id.case, _code(evidence), evidence.stderr.tail
    )


def _code(evidence: Evidence) -> int | None:
    """Return the exit code of a test that ended by itself; None if it was ended."""
    if evidence.agent is None or evidence.timed_out or evidence.interrupted:
        return None
    return evidence.agent.exit_code


class AttemptLane:
    """A lane that turns assignments into judged attempts, one after another. Used by one thread."""

    def __init__(self, execute: AttemptRunner, lane: SlotLane) -> None:
        self._execute = execute
        self._lane = lane
        self._places: dict[tuple[str, int], Path] = {}
        """The folders of attempts that have started and are not judged yet; at most two."""

    def run(
        self, assignment: Assignment, waits_since: float, upcoming: Callable[[], Assignment | None]
    ) -> Attempt:
        """Run one attempt and return it, judged. Raises StateError if its files cannot be written."""
        try:
            evidence = self._lane.run(assignment, waits_since, self._place_of, upcoming)
            if evidence.engine_failure is not None:
                self._execute.look_for_room(assignment)
            place = self._place_of(assignment)
            del self._places[assignment.key, assignment.attempt]
            return self._execute.judge(assignment, place, evidence)
        except OSError as error:
            raise StateError(
                f"cannot write the files of {assignment.test.id}: {error}",
                remedy="free disk space, or set state_dir in profiles.yaml; finished tests are recorded",
            ) from error

    def close(self) -> None:
        """Close the lane and remove its container."""
        self._lane.close()

    def _place_of(self, assignment: Assignment) -> Path:
        """Return the folder of the attempt. An attempt that starts again after its container was lost keeps it."""
        key = assignment.key, assignment.attempt
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._execute.folder_of(assignment)
        return place
