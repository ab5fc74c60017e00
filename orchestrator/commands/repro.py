"""`orch repro RUN:TEST`: print the engine command that runs a recorded test again under its recorded limits."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.coordinator.console import note, say, show
from orchestrator.coordinator.environment import new_run, run_environment
from orchestrator.coordinator.executor import AttemptRunner
from orchestrator.coordinator.run_folder import RunFolder
from orchestrator.coordinator.selection import find_test_id
from orchestrator.coordinator.session import container_context, git_state, load_with_database
from orchestrator.coordinator.signals import Signals
from orchestrator.engine import labels
from orchestrator.engine.docker.command_line_client import client_program
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.isolation import hardening
from orchestrator.engine.isolation.docker_run import run_words, shell_text
from orchestrator.errors import ExitCode, NothingFoundError, UsageError
from orchestrator.measure.processes import host_info
from orchestrator.model.outcomes import Outcome
from orchestrator.model.profiles import Network
from orchestrator.model.tests import Assignment
from orchestrator.redaction import is_secret_name
from orchestrator.reports.tables.comparison import comparison_table
from orchestrator.reports.terminal.output_tail import output_lines
from orchestrator.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine
    from orchestrator.model.profiles import Profile
    from orchestrator.model.results import Attempt
    from orchestrator.model.stored import AttemptRow, RunRecord


def repro(
    *, config_path: Path | None, database: str | None, engine_url: str | None, target: str, run_it: bool
) -> int:
    """Print the command; with `run_it`, run the test once more and compare the result with the recorded one."""
    from orchestrator.coordinator.database import open_read_only, print_scope
    from orchestrator.database.queries.runs import load_run

    run_name, colon, test_name = target.partition(":")
    if not run_name or not colon or not test_name:
        raise UsageError(f"cannot read {target!r}", remedy="write RUN:TEST, e.g. latest:test/test_parse.py")
    config = load_with_database(config_path, database)
    with open_read_only(config) as db:
        if run_name == "latest":
            print_scope(db)
        record = load_run(db, run_name)
    recorded = find_attempt(record, test_name)
    engine = open_engine(engine_url)
    image_id = _image(engine, recorded)
    assignment = _assignment(config, recorded)
    if not run_it:
        say(shell_text(_words(config, engine, assignment, image_id)))
        if hidden := sorted(filter(is_secret_name, assignment.test.command.env)):
            note(f"the values of {', '.join(hidden)} are not shown: export them before you run the command")
        return ExitCode.OK

    _warn_of_other_sources(config, record)
    return run_again(config, engine, assignment, image_id=image_id, recorded=recorded)


def find_attempt(record: RunRecord, name: str) -> AttemptRow:
    """Return the deciding attempt of a test; of several repetitions, that of the first that did not pass.

    `name` is the test's id or the end of it, see `find_test_id`.
    """
    finals = record.final_attempts
    missing = NothingFoundError(
        f"run {record.run.short_id} has no test {name!r}", remedy="orch runs show lists the tests of a run"
    )
    test_id = find_test_id((str(a.test_id) for a in finals), name, missing=missing)
    found = [a for a in finals if str(a.test_id) == test_id]
    return next((a for a in found if a.outcome is not Outcome.PASSED), found[0])


def _image(engine: Engine, recorded: AttemptRow) -> str:
    """Return the image in which the attempt ran, by its ID, because its tag may now name another image."""
    image_id = recorded.attestation.image_id if recorded.attestation else ""
    if not image_id or engine.find_image(image_id) is None:
        raise NothingFoundError(
            f"the image of that run ({image_id[:19] or 'unknown'}) is no longer on this engine",
            remedy="orch build, then run the test again",
        )
    return image_id


def _warn_of_other_sources(config: Config, record: RunRecord) -> None:
    revision, _, dirty = git_state(config.project_root)
    if record.run.revision and revision and revision != record.run.revision:
        was = f"the sources are at {revision[:12]}, the run was at {record.run.revision[:12]}"
    elif dirty or record.run.dirty:
        was = "the sources have, or had, uncommitted changes"
    else:
        return
    note(f"{was}: this may explain differences")


def _words(config: Config, engine: Engine, assignment: Assignment, image_id: str) -> list[str]:
    spec = hardening.container_spec(
        assignment.profile,
        container_context(config, engine.info),
        name=labels.container_name(assignment),
        image_id=image_id,
        labels={},
        streams_dir=None,
        cgroup_parent=None,
    )
    command = assignment.test.command
    env = {**hardening.BASE_ENV, **hardening.test_env(assignment)}
    # only variables of the project; a variable of orch may be called ..._KEY
    secret = set(filter(is_secret_name, command.env))
    return run_words(
        spec,
        hardening.argv_inside(command),
        program=client_program(engine.info),
        seccomp_file=str(_seccomp_file(config)),
        env={name: None if name in secret else value for name, value in env.items()},
        working_dir=hardening.work_folder(command),
    )


def _seccomp_file(config: Config) -> Path:
    if config.seccomp is not None:
        return config.seccomp
    from orchestrator.config.shipped import docker_folder

    return docker_folder() / "seccomp.json"


def _assignment(config: Config, recorded: AttemptRow) -> Assignment:
    """Return the test as it is found today, assigned to the recorded limits."""
    from orchestrator.suites.discover import discover

    wanted = str(recorded.test_id)
    tests = discover(config.suites, [str(config.project_root / wanted)], config.project_root, environ=os.environ)
    test = next((t for t in tests if t.id == recorded.test_id), None)
    if test is None:
        raise NothingFoundError(
            f"{wanted} is no longer a test of this project", remedy="check out the revision of that run"
        )
    profile = config.profiles.get(recorded.profile)
    if profile is None:
        raise NothingFoundError(
            f"profile {recorded.profile!r} is no longer in the configuration",
            remedy="check out the revision of that run",
        )
    return Assignment(
        run_id=recorded.run_id,
        test=test,
        profile=_as_recorded(profile, recorded),
        reason=recorded.reason,
        attempt=recorded.attempt,
        repetition=recorded.repetition,
    )


def _as_recorded(profile: Profile, recorded: AttemptRow) -> Profile:
    """Return the profile with the limits that were in effect in the container, where those were recorded."""
    was = recorded.attestation
    if was is None:
        return replace(profile, limits=recorded.limits)
    networks = [network for network in Network if network.value == was.network]
    return replace(
        profile,
        limits=recorded.limits,
        network=networks[0] if networks else profile.network,
        capabilities=tuple(name.removeprefix("CAP_") for name in was.capabilities),
    )


def run_again(
    config: Config, engine: Engine, assignment: Assignment, *, image_id: str, recorded: AttemptRow
) -> int:
    """Run one attempt in a fresh container of the recorded image, and print both results side by side.

    Return the exit code that `orch run` would return for this result.
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
        # its folder has been removed, so the output must not name it
        for line in output_lines(replace(attempt, folder=None)):
            say(line)
    return 128 + signal_number if signal_number is not None else _code(attempt.outcome)


def _attempt(config: Config, engine: Engine, assignment: Assignment, image_id: str) -> tuple[Attempt, int | None]:
    """Return the attempt, and the number of the signal that ended it or None."""
    images = {assignment.profile.image: image_id}
    this = new_run(str(uuid.uuid4()), config, engine, host_info(), images, project_id="")
    fresh = replace(
        assignment,
        run_id=this.id,
        attempt=1,
        repetition=1,
        profile=replace(assignment.profile, reuse=1),
    )
    with (
        run_environment(this.id, config, engine, images=images) as environment,
        Signals(environment.stop, lambda: [f"running {assignment.test.id}"]) as signals,
    ):
        runner = AttemptRunner(environment.executor, RunFolder(environment.work_dir / "state", this))
        with closing(runner.lane()) as lane:
            attempt = lane.run(fresh, time.monotonic(), lambda: None)
    return attempt, signals.received


def _code(outcome: Outcome) -> int:
    match outcome:
        case Outcome.PASSED | Outcome.SKIPPED:
            return ExitCode.OK
        case Outcome.INFRA:
            return ExitCode.INFRA
        case _:
            return ExitCode.TESTS_FAILED
