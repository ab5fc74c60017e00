"""`orch repro RUN:TEST`: the engine command that runs a recorded test again, with the limits it had."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.commands.printing import note, say
from orchestrator.commands.session import git_state, load_with_database, surroundings
from orchestrator.commands.shell import client_program
from orchestrator.engine import hardening, labels
from orchestrator.engine.cliform import run_words, shell_text
from orchestrator.engine.docker import open_engine
from orchestrator.errors import ExitCode, NothingFoundError, UsageError
from orchestrator.model import Assignment, Network, Outcome
from orchestrator.redaction import is_secret_name

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine
    from orchestrator.model import Profile
    from orchestrator.model_reports import AttemptRow, RunRecord


def repro(
    *, config_path: Path | None, database: str | None, engine_url: str | None, target: str, run_it: bool
) -> int:
    """Print the command; with `run_it`, run the test once more and compare it with what was recorded."""
    from orchestrator.commands.opening import open_to_read, tell_scope
    from orchestrator.database import queries

    run_name, colon, test_name = target.partition(":")
    if not run_name or not colon or not test_name:
        raise UsageError(f"cannot read {target!r}", remedy="write RUN:TEST, e.g. latest:test/test_parse.py")
    config = load_with_database(config_path, database)
    with open_to_read(config) as db:
        if run_name == "latest":
            tell_scope(db)
        record = queries.load_run(db, run_name)
    recorded = find_attempt(record, test_name)
    engine = open_engine(engine_url)
    image_id = _image(engine, recorded)
    assignment = _assignment(config, recorded)
    if not run_it:
        say(shell_text(_words(config, engine, assignment, image_id)))
        if hidden := sorted(filter(is_secret_name, assignment.test.command.env)):
            note(f"values of {', '.join(hidden)} are not shown: export them before you run this")
        return ExitCode.OK
    from orchestrator.commands.rerun import run_again

    _warn_of_other_sources(config, record)
    return run_again(config, engine, assignment, image_id=image_id, recorded=recorded)


def find_attempt(record: RunRecord, name: str) -> AttemptRow:
    """The deciding attempt of a test, by its id or by the end of it: of whole folder names, else of any text.

    Of several repetitions, the first that did not pass.
    """
    finals = record.final_attempts
    exact = [a for a in finals if str(a.test_id) == name]
    found = exact or [a for a in finals if str(a.test_id).endswith(f"/{name}")]
    found = found or [a for a in finals if str(a.test_id).endswith(name)]
    if not found:
        raise NothingFoundError(
            f"run {record.run.short_id} has no test {name!r}", remedy="orch runs show lists the tests of a run"
        )
    names = sorted({str(a.test_id) for a in found})
    if len(names) > 1:
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise UsageError(f"{name!r} is the end of several tests: {some}", remedy="write more of the path")
    return next((a for a in found if a.outcome is not Outcome.PASSED), found[0])


def _image(engine: Engine, recorded: AttemptRow) -> str:
    """The image that the attempt ran in, by its ID: a tag may mean another one today."""
    image_id = recorded.attestation.image_id if recorded.attestation else ""
    if not image_id or engine.find_image(image_id) is None:
        raise NothingFoundError(
            f"the image of that run ({image_id[:19] or 'unknown'}) is not on this engine any more",
            remedy="orch build, then run the test again",
        )
    return image_id


def _warn_of_other_sources(config: Config, record: RunRecord) -> None:
    revision, _, dirty = git_state(config.project_root)
    if record.run.revision and revision and revision != record.run.revision:
        was = f"the sources are at {revision[:12]}, the run was at {record.run.revision[:12]}"
    elif dirty or record.run.dirty:
        was = "the sources have, or had, changes that no revision holds"
    else:
        return
    note(f"{was}: differences may come from there")


def _words(config: Config, engine: Engine, assignment: Assignment, image_id: str) -> list[str]:
    spec = hardening.container_spec(
        assignment.profile,
        surroundings(config, engine.info),
        name=labels.container_name(assignment),
        image_id=image_id,
        labels={},
        streams_dir=None,
        cgroup_parent=None,
    )
    command = assignment.test.command
    env = {**hardening.BASE_ENV, **hardening.test_env(assignment)}
    secret = set(filter(is_secret_name, command.env))  # of the project; what is ours may be called ..._KEY
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
    """The test as it is found today, under the recorded limits."""
    from orchestrator.suites.discover import discover

    wanted = str(recorded.test_id)
    tests = discover(config.suites, [str(config.project_root / wanted)], config.project_root, environ=os.environ)
    test = next((t for t in tests if t.id == recorded.test_id), None)
    if test is None:
        raise NothingFoundError(
            f"{wanted} is not among the project's tests any more", remedy="check out the revision of that run"
        )
    profile = config.profiles.get(recorded.profile)
    if profile is None:
        raise NothingFoundError(
            f"profile {recorded.profile!r} is not in the configuration any more",
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
    """The profile with what the container really had, where that was read back."""
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
