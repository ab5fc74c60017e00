"""`orch repro RUN:TEST`: the engine command that runs a recorded test again, with the limits it had."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.commands.printing import say
from orchestrator.commands.session import load, surroundings
from orchestrator.commands.shell import client_env, client_program
from orchestrator.engine import hardening, labels
from orchestrator.engine.cliform import run_words, shell_text
from orchestrator.engine.docker import open_engine
from orchestrator.errors import NothingFoundError, UsageError
from orchestrator.model import Assignment

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine
    from orchestrator.model_reports import AttemptRow, RunRecord


def repro(
    *, config_path: Path | None, database: str | None, engine_url: str | None, target: str, run_it: bool
) -> int:
    """Print the command; with `run_it`, run it and compare its exit code with the recorded one."""
    from orchestrator.commands.report import opened
    from orchestrator.database import queries

    run_name, colon, test_name = target.partition(":")
    if not colon or not test_name:
        raise UsageError(f"cannot read {target!r}", remedy="write RUN:TEST, e.g. latest:test/test_parse.py")
    config = load(config_path, {} if database is None else {"database": database})
    with opened(config_path, database) as db:
        recorded = _find(queries.load_run(db, run_name), test_name)
    engine = open_engine(engine_url)
    words = _words(config, engine, recorded)
    if not run_it:
        say(shell_text(words))
        return 0
    code = subprocess.run(words, env=client_env(engine.info), check=False).returncode
    then = "no exit code" if recorded.exit_code is None else f"exit code {recorded.exit_code}"
    say(f"exit code {code}; recorded: {recorded.outcome.value}, {then}")
    return code


def _find(record: RunRecord, name: str) -> AttemptRow:
    """The deciding attempt of a test, by its id or by the end of it."""
    finals = record.final_attempts
    exact = [a for a in finals if str(a.test_id) == name]
    found = exact or [a for a in finals if str(a.test_id).endswith(f"/{name}")]
    if not found:
        raise NothingFoundError(
            f"run {record.run.short_id} has no test {name!r}", remedy="orch runs show lists the tests of a run"
        )
    if len({str(a.test_id) for a in found}) > 1:
        names = ", ".join(sorted(str(a.test_id) for a in found))
        raise UsageError(f"{name!r} is the end of several tests: {names}", remedy="write more of the path")
    return found[0]


def _words(config: Config, engine: Engine, recorded: AttemptRow) -> list[str]:
    assignment = _assignment(config, recorded)
    image_id = recorded.attestation.image_id if recorded.attestation else ""
    if not image_id or engine.find_image(image_id) is None:
        raise NothingFoundError(
            f"the image of that run ({image_id[:19] or 'unknown'}) is not on this engine any more",
            remedy="orch build, then run the test again",
        )
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
    return run_words(
        spec,
        hardening.argv_inside(command),
        program=client_program(engine.info),
        seccomp_file=str(_seccomp_file(config)),
        env={**hardening.BASE_ENV, **hardening.test_env(assignment)},
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
        profile=replace(profile, limits=recorded.limits),
        reason=recorded.reason,
        attempt=recorded.attempt,
        repetition=recorded.repetition,
    )
