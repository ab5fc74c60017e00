"""`orch repro --run`: a recorded test once more, through orch's own executor, recorded nowhere."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.commands.execute import Execute
from orchestrator.commands.folders import RunFolder
from orchestrator.commands.printing import say, show
from orchestrator.commands.run import describe
from orchestrator.commands.session import make_place, surroundings
from orchestrator.commands.signals import Signals
from orchestrator.engine.labels import Owner
from orchestrator.engine.local import LocalExecutor
from orchestrator.engine.reaper import Reaper
from orchestrator.errors import ExitCode
from orchestrator.measure.processes import host_info, owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model import Outcome
from orchestrator.reports.comparison import comparison_table
from orchestrator.reports.output import output_lines
from orchestrator.reports.text import one_line
from orchestrator.stopping import StopFlag

if TYPE_CHECKING:
    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine
    from orchestrator.model import Assignment, Attempt
    from orchestrator.model_reports import AttemptRow


def run_again(
    config: Config, engine: Engine, assignment: Assignment, *, image_id: str, recorded: AttemptRow
) -> int:
    """One attempt in a fresh container of the recorded image; prints both side by side.

    The exit code says how it ended this time, as that of `orch run` would.
    """
    attempt, signal_number = _attempt(config, engine, assignment, image_id)
    say(f"{one_line(str(recorded.test_id))}: recorded in run {recorded.run_id[:8]}, and run again")
    say()
    show(comparison_table(recorded, attempt), "table")
    if attempt.message:
        say()
        say(f"now: {one_line(attempt.message)}")
    for violation in attempt.violations:
        say(f"{violation.severity.value}: {one_line(violation.message)}")
    if attempt.outcome is not Outcome.PASSED:
        # its folder is gone with the rest: nothing may point there
        for line in output_lines(replace(attempt, folder=None)):
            say(line)
    return 128 + signal_number if signal_number is not None else _code(attempt.outcome)


def _attempt(config: Config, engine: Engine, assignment: Assignment, image_id: str) -> tuple[Attempt, int | None]:
    """The attempt, and the signal that ended it if one did."""
    images = {assignment.profile.image: image_id}
    this = describe(str(uuid.uuid4()), config, engine, host_info(), images, project_id="")
    token = owner_token()
    place = make_place(this.id, token)
    stop = StopFlag()
    with ExitStack() as stack:
        stack.enter_context(Reaper(engine, Owner(run_id=this.id, token=token, place=str(place))))
        sampler = stack.enter_context(Sampler())
        signals = stack.enter_context(Signals(stop, lambda: [f"running {assignment.test.id}"]))
        executor = LocalExecutor(
            engine,
            around=surroundings(config, engine.info),
            owner=Owner(run_id=this.id, token=token, place=str(place)),
            images=images,
            sampler=sampler,
            stop=stop,
            work_dir=place,
        )
        alone = replace(assignment.profile, reuse=1)
        again = replace(assignment, run_id=this.id, attempt=1, repetition=1, profile=alone)
        stack.callback(executor.close)
        with closing(Execute(executor, RunFolder(place / "state", this)).lane()) as lane:
            attempt = lane.run(again, time.monotonic(), lambda: None)
        return attempt, signals.received


def _code(outcome: Outcome) -> int:
    match outcome:
        case Outcome.PASSED | Outcome.SKIPPED:
            return ExitCode.OK
        case Outcome.INFRA:
            return ExitCode.INFRA
        case _:
            return ExitCode.TESTS_FAILED
