"""`orch flaky --diagnose TEST`: run a test under several conditions and find those that make it fail.

The attempts are recorded in a state folder of their own, `.orch/diagnoses`, with its own database and run folders,
because failures that were provoked are not history of the project (docs/design/analysis/flaky.md).
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.analysis.diagnosis import compare_conditions
from orchestrator.analysis.flakiness import suspects
from orchestrator.coordinator.console import note, say, show
from orchestrator.coordinator.database import keep_project, open_read_only, print_scope
from orchestrator.coordinator.diagnosis.runner import DiagnosedTest, DiagnosisRunner
from orchestrator.coordinator.environment import ensure_images_of, ledger_of, new_run, run_environment
from orchestrator.coordinator.recorder import mark_interrupted_on_error
from orchestrator.coordinator.retention import remove_old_runs
from orchestrator.coordinator.run_folder import RunFolder
from orchestrator.coordinator.selection import find_test_id
from orchestrator.coordinator.session import load
from orchestrator.coordinator.signals import Signals
from orchestrator.database.queries.flaky import flaky_tests
from orchestrator.database.store.store import Database
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.isolation.enforcement import require_enforced
from orchestrator.errors import ExitCode, NothingFoundError
from orchestrator.measure.processes import host_info, owner_alive
from orchestrator.model.flakiness import Diagnosis, Factor
from orchestrator.model.runs import RunStatus
from orchestrator.reports.tables.diagnosis import conclusion_lines, diagnosis_table, result_text
from orchestrator.scheduling.assign import assign
from orchestrator.stop_flag import StopLevel
from orchestrator.suites.discover import discover
from orchestrator.text import one_line, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.coordinator.console import Window
    from orchestrator.engine.base import Engine
    from orchestrator.engine.cleanup.reaper import Reaper
    from orchestrator.engine.slots.executor import LocalExecutor
    from orchestrator.model.flakiness import ConditionResult
    from orchestrator.model.runs import HostInfo, Ledger, Run
    from orchestrator.model.tests import Assignment, Test

RUNS = 10
SUSPECTS = 3
"""The largest number of neighbours, and of predecessors, that are tried."""
DIAGNOSES = "diagnoses"
"""The name of the state folder of diagnoses, below the state folder of the project."""


def diagnose(
    test_name: str,
    *,
    config_path: Path | None,
    database: str | None,
    engine_url: str | None,
    window: Window,
    runs: int = RUNS,
    output_format: str,
) -> int:
    """Print the results of a test under each condition. Return exit code 0, or 36 if no attempt could be judged.

    `test_name` is the id of the test or its end. `runs` is the number of attempts under each condition. `window`
    is the part of the history in which suspected neighbours and predecessors are looked for.
    """
    config = load(config_path, {} if database is None else {"database": database})
    discovered = discover(config.suites, (), config.project_root, environ=os.environ, notice=note)
    every = {str(test.id): test for test in discovered}
    missing = NothingFoundError(f"no test is called {test_name!r}", remedy="orch list lists all tests")
    test = every[find_test_id(every, test_name, missing=missing)]
    host = host_info()
    run_id = str(uuid.uuid4())
    subject = _test_under_diagnosis(config, window, every, test, host=host, run_id=run_id)
    engine = open_engine(engine_url)
    require_enforced(engine.info, allow=False)
    wanted = {a.profile.image for a in (subject.assignment, *subject.neighbours)}
    images = ensure_images_of(config, wanted, engine)
    this = new_run(run_id, config, engine, host, images, project_id=keep_project(config))
    people = output_format == "table"
    write_line = say if people else note
    busy = os.getloadavg()[0]
    if busy > host.cpus / 2:
        note(f"this machine is busy (load {busy:.1f} on {host.cpus:g} CPUs): alone means beside that load")
    write_line(f"{one_line(str(test.id))}, {plural(runs, 'run')} under each condition")
    diagnosis, signal_number = _recorded(config, engine, this, subject, runs=runs, write_line=write_line)
    if people:
        say("\n".join(conclusion_lines(diagnosis)))
    else:
        show(diagnosis_table(diagnosis), output_format)
    if signal_number is not None:
        return 128 + signal_number
    return ExitCode.OK if any(result.total for result in diagnosis.results) else ExitCode.INFRA


def _test_under_diagnosis(
    config: Config, window: Window, every: Mapping[str, Test], test: Test, *, host: HostInfo, run_id: str
) -> DiagnosedTest:
    """Return the test with the neighbours and predecessors that its failures in the window have in common."""
    with open_read_only(config) as db:
        print_scope(db)
        known = flaky_tests(db, since=window.since, until=window.until, only=test.id)
    attempts = known[0].attempts if known else ()
    itself = str(test.id)  # running beside itself is another condition
    beside = _tests(every, [n for n in suspects(attempts, Factor.NEIGHBOUR, at_most=SUSPECTS + 1) if n != itself])
    before = _tests(every, suspects(attempts, Factor.AFTER, at_most=SUSPECTS))
    wanted = {t.id: t for t in (test, *beside, *before)}
    assigned = {one.test.id: one for one in _assigned(config, wanted.values(), host, run_id)}
    return DiagnosedTest(
        assignment=assigned[test.id],
        neighbours=tuple(assigned[t.id] for t in beside[:SUSPECTS]),
        predecessors=tuple(assigned[t.id] for t in before),
    )


def _tests(every: Mapping[str, Test], names: Sequence[str]) -> list[Test]:
    """Return the tests of these names that still exist."""
    return [every[name] for name in names if name in every]


def _assigned(config: Config, tests: Iterable[Test], host: HostInfo, run_id: str) -> Sequence[Assignment]:
    return assign(
        tests,
        rules=config.rules,
        profiles=config.profiles,
        default=config.default_profile,
        run_id=run_id,
        forced=None,
        history={},
        host=host,
        retries=0,
        repeat=1,
        strict_limits=False,
    )


# ---------------------------------------------------------------- running and recording it


def _recorded(
    config: Config,
    engine: Engine,
    this: Run,
    subject: DiagnosedTest,
    *,
    runs: int,
    write_line: Callable[[str], None],
) -> tuple[Diagnosis, int | None]:
    """Return the diagnosis, and the number of the signal that ended it early or None."""
    folder = config.state_dir / DIAGNOSES
    began = time.monotonic()
    with Database.open(None, state_dir=folder, owner_alive=owner_alive) as database:
        with mark_interrupted_on_error(this.id, lambda: database):
            diagnosis, ledger, signal_number = _run(
                config, engine, this, subject, runs=runs, database=database, write_line=write_line
            )
        database.finish_run(
            this.id,
            status=RunStatus.INTERRUPTED if diagnosis.interrupted else RunStatus.FINISHED,
            exit_code=ExitCode.OK if signal_number is None else 128 + signal_number,
            duration_seconds=time.monotonic() - began,
            ledger=ledger,
        )
        for problem in remove_old_runs(folder, config.retention):
            note(problem)
        database.prune(config.retention, thin_at_most=10)
    return diagnosis, signal_number


def _run(
    config: Config,
    engine: Engine,
    this: Run,
    subject: DiagnosedTest,
    *,
    runs: int,
    database: Database,
    write_line: Callable[[str], None],
) -> tuple[Diagnosis, Ledger, int | None]:
    folder = RunFolder(config.state_dir / DIAGNOSES, this)
    with (
        run_environment(this.id, config, engine, images=this.images) as environment,
        Signals(environment.stop, lambda: [f"running {key}" for key in environment.sampler.latest()]) as signals,
    ):
        database.begin_run(this, [], owner=environment.owner.token)
        runner = DiagnosisRunner(
            subject=subject,
            runs=runs,
            executor=environment.executor,
            folder=folder,
            database=database,
            host=this.host,
            stop=environment.stop,
        )
        weighed, culprits = compare_conditions(list(_printed(runner.results(), write_line)))
    diagnosis = Diagnosis(
        test_id=subject.assignment.test.id,
        run_id=this.id,
        results=weighed,
        culprits=culprits,
        interrupted=environment.stop.level >= StopLevel.TERMINATE,
    )
    return diagnosis, _ledger(environment.executor, runner, environment.reaper), signals.received


def _printed(results: Iterable[ConditionResult], write_line: Callable[[str], None]) -> Iterator[ConditionResult]:
    """Yield the results unchanged, printing each as soon as it is known."""
    for result in results:
        write_line(f"  {result_text(result)}")
        sys.stdout.flush()
        yield result


def _ledger(executor: LocalExecutor, runner: DiagnosisRunner, reaper: Reaper) -> Ledger:
    """Return the ledger of all containers: those of the test and those of the background loads."""
    own = ledger_of(executor, reaper)
    expected, created, removed = (
        sum(numbers) for numbers in zip((0, 0, 0), *runner.background_containers, strict=True)
    )
    return replace(
        own,
        expected_containers=own.expected_containers + expected,
        created_containers=own.created_containers + created,
        removed_containers=own.removed_containers + removed,
    )
