"""`orch run`: find tests, map each to a profile, run it in a container, measure, record, report.

`run` is the product's flow in its order; what is below it are the steps' details.
"""

from __future__ import annotations

import signal
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.commands import own_limits
from orchestrator.commands.calibrating import calibrate
from orchestrator.commands.execute import Execute
from orchestrator.commands.folders import RunFolder
from orchestrator.commands.ground import ground
from orchestrator.commands.keeping import Keeping
from orchestrator.commands.oldruns import OldRunRemoval
from orchestrator.commands.opening import LateDatabase
from orchestrator.commands.project import project_name
from orchestrator.commands.reporting import Output
from orchestrator.commands.selecting import make_plan, nothing_selected
from orchestrator.commands.session import git_state, load, specs_of
from orchestrator.commands.signals import Signals
from orchestrator.engine.docker import open_engine
from orchestrator.engine.images import ensure_images
from orchestrator.engine.labels import TEST
from orchestrator.engine.limits import require_enforced
from orchestrator.errors import DatabaseError, ExitCode, OrchError
from orchestrator.measure.processes import host_info
from orchestrator.model import Ledger, Outcome, Run, RunStatus
from orchestrator.reports.digest import RunSummary
from orchestrator.scheduling.admission import Budget
from orchestrator.scheduling.assign import clamp
from orchestrator.scheduling.loop import schedule
from orchestrator.scheduling.policy import Policy
from orchestrator.stopping import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator.commands.ground import Ground
    from orchestrator.commands.options import RunOptions
    from orchestrator.config.settings import Config
    from orchestrator.database.store import Database
    from orchestrator.engine.base import Engine
    from orchestrator.engine.local import LocalExecutor
    from orchestrator.engine.reaper import Reaper
    from orchestrator.model import Assignment, HostInfo, LeftOut
    from orchestrator.reports.digest import Digest
    from orchestrator.scheduling.loop import Event, Schedule

MAX_AUTO_SLOTS = 64
SWITCH_SECONDS = 0.0005
"""Longest turn of one thread while another waits. With Python's 5 ms, a lane that is told of its test's end waits
for the thread that records: 1,000 shell tests one at a time took 9.2 and 9.9 s, with this 8.2 and 7.9 s.
"""
SIGNALLED = 128
"""Exit codes from here on tell of a signal: 128 and its number, as shells do."""
MEMORY_SHARE = 0.9
"""Of the host's memory; the rest is the engine's, orch's and the page cache's."""


def run(options: RunOptions) -> int:
    """Run the selected tests; the exit code."""
    config = load(options.config_path, options.overrides())
    host = host_info()
    output = Output(options, config)
    removal = OldRunRemoval(config.state_dir, config.retention)
    with LateDatabase(config, output.notices, reading=options.dry_run) as late, removal:
        run_id = str(uuid.uuid4())
        left_out: list[LeftOut] = []
        plan = make_plan(
            options, config, host=host, run_id=run_id, known=late, notice=output.notice, left_out=left_out
        )
        if not plan:
            nothing_selected(config, output.notice)
            return ExitCode.OK
        if options.dry_run:
            return output.plan(plan, budget(config, host, plan))
        own_limits.require(
            config.run.jobs or budget(config, host, plan).slots,
            profiles={a.profile.name: a.profile for a in plan}.values(),
            state_dir=config.state_dir,
        )
        engine = open_engine(options.engine_url)
        plan = marked(plan, require_enforced(engine.info, allow=options.allow_unenforced))
        images = pin_images(engine, config, plan, offline_base=options.offline_base, output=output)
        this = describe(run_id, config, engine, host, images, project_id=late.keep_project())
        with ended_whatever_happens(run_id, late.get):
            summary = carry_out(
                this,
                plan,
                config=config,
                engine=engine,
                again=lambda name: pin_images(
                    engine, config, plan, offline_base=options.offline_base, output=output
                )[name],
                late=late,
                removal=removal,
                output=output,
            )
        summary = replace(summary, left_out=tuple(left_out))
        database = late.get()
        unrecorded: list[DatabaseError] = []
        with put_off(unrecorded):  # what has run is told and reported first
            database.finish_run(
                run_id,
                status=summary.status,
                exit_code=summary.exit_code,
                duration_seconds=summary.duration_seconds,
                ledger=summary.ledger,
            )
        output.summary(summary)
        if summary.exit_code < SIGNALLED:  # who pressed Ctrl-C does not wait for it: the next run goes on
            output.notices(removal.finish())
        with put_off(unrecorded):
            database.prune(config.retention, thin_at_most=10)
        if unrecorded:
            raise unrecorded[0]
    return summary.exit_code


@contextmanager
def put_off(errors: list[DatabaseError]) -> Iterator[None]:
    """Collect an error of the database, to be raised later."""
    try:
        yield
    except DatabaseError as error:
        errors.append(error)


@contextmanager
def ended_whatever_happens(run_id: str, database: Callable[[], Database]) -> Iterator[None]:
    """A run that an error ended (a reader that went away, a full disk) is recorded as interrupted."""
    began = time.monotonic()
    try:
        yield
    except BaseException as error:
        with suppress(OrchError):  # the first error is the one to be told
            database().finish_run(
                run_id,
                status=RunStatus.INTERRUPTED,
                exit_code=_code_of(error),
                duration_seconds=time.monotonic() - began,
                ledger=Ledger(),
            )
        raise


def _code_of(error: BaseException) -> int:
    """What `cli.main` will exit with."""
    match error:
        case OrchError():
            return error.exit_code
        case BrokenPipeError():
            return SIGNALLED + signal.SIGPIPE
        case KeyboardInterrupt():
            return SIGNALLED + signal.SIGINT
        case _:
            return ExitCode.DEFECT


def carry_out(
    this: Run,
    plan: Sequence[Assignment],
    *,
    config: Config,
    engine: Engine,
    again: Callable[[str], str],
    late: LateDatabase,
    removal: OldRunRemoval,
    output: Output,
) -> RunSummary:
    """From the first container to the last: what became of the plan. `again` has an image again by its name."""
    began = time.monotonic()
    folder = RunFolder(config.state_dir, this)
    sys.setswitchinterval(SWITCH_SECONDS)
    with ground(this, config, engine, again=again, notice=output.notice) as here:
        progress = output.progress(folder, here.sampler)
        keeping = Keeping(this.id, database=late, folder=folder, progress=progress)

        def begin(database: Database) -> None:
            database.begin_run(this, plan, owner=here.owner.token)

        def on_event(event: Event) -> None:
            keeping.event(event)
            late.begin(begin)
            removal.begin_soon(here.stop)

        with Signals(here.stop, progress.running_lines) as signals:
            try:
                progress.start(this, plan)
                going = scheduled(
                    this, plan, config=config, engine=engine, here=here, folder=folder, on_event=on_event
                )
                for result in going:
                    keeping.take(result)
            finally:
                late.begin(begin)  # a run that was ended before its first test is a run all the same
                keeping.flush()
            progress.close()
    ledger = ledger_of(here.executor, here.reaper)
    return RunSummary(
        run=this,
        status=RunStatus.INTERRUPTED if here.stop.level >= StopLevel.TERMINATE else RunStatus.FINISHED,
        digest=keeping.digest,
        not_run=going.not_run,
        duration_seconds=time.monotonic() - began,
        exit_code=exit_code(keeping.digest, going, config=config, signal_number=signals.received, ledger=ledger),
        ledger=ledger,
    )


def scheduled(
    this: Run,
    plan: Sequence[Assignment],
    *,
    config: Config,
    engine: Engine,
    here: Ground,
    folder: RunFolder,
    on_event: Callable[[Event], None],
) -> Schedule:
    """The plan, ready to be iterated: profiles fit the host, and what a null test costs is known."""
    profiles = {name: clamp(profile, this.host)[0] for name, profile in config.profiles.items()}
    calibrate(
        here.executor,
        plan,
        images=this.images,
        info=engine.info,
        state_dir=config.state_dir,
        place=here.place,
        stop=here.stop,
    )
    execute = Execute(
        here.executor,
        folder,
        profiles=profiles,
        default_profile=config.default_profile,
        judge_budgets=config.run.violations != "off",
    )
    return schedule(
        plan,
        execute,
        budget=budget(config, this.host, plan),
        policy=policy(config),
        stop=here.stop,
        profiles=profiles,
        on_event=on_event,
    )


def budget(config: Config, host: HostInfo, plan: Sequence[Assignment]) -> Budget:
    """What may run at once. A number of jobs that the user gave is believed over the count of CPUs."""
    memory = int(host.memory_bytes * MEMORY_SHARE)
    if config.run.jobs is not None:
        # no test is granted more than the host has, so that this lets as many run as were asked for
        return Budget(cpus=host.cpus * config.run.jobs, memory_bytes=memory, slots=config.run.jobs)
    return Budget(
        cpus=host.cpus, memory_bytes=memory, slots=min(MAX_AUTO_SLOTS, max(1, len(plan)), own_limits.most_slots())
    )


def policy(config: Config) -> Policy:
    """How often tests are tried, and when the run ends early."""
    return Policy(
        max_fail=config.run.max_fail,
        flaky_fails=config.run.flaky_result == "fail",
        deadline_seconds=config.run.timeout_seconds,
    )


def pin_images(
    engine: Engine, config: Config, plan: Sequence[Assignment], *, offline_base: bool, output: Output
) -> Mapping[str, str]:
    """Image name -> ID for what the plan needs. A promoted test keeps its image."""
    specs = specs_of(config, {a.profile.image for a in plan})
    return ensure_images(engine, specs, offline_base=offline_base, on_line=output.building)


def marked(plan: tuple[Assignment, ...], notice: str | None) -> tuple[Assignment, ...]:
    """The plan with a notice about its limits on each test; it is stored and shown with the result."""
    if notice is None:
        return plan
    return tuple(replace(assignment, clamped=(*assignment.clamped, notice)) for assignment in plan)


def describe(
    run_id: str, config: Config, engine: Engine, host: HostInfo, images: Mapping[str, str], *, project_id: str
) -> Run:
    """The run's record, before anything has run."""
    revision, branch, dirty = git_state(config.project_root)
    return Run(
        id=run_id,
        started_at=datetime.now(UTC),
        argv=tuple(sys.argv[1:]),
        project=project_name(config),
        project_id=project_id,
        config_digest=config.digest,
        orch_version=__version__,
        engine=engine.info,
        host=host,
        images=images,
        revision=revision,
        branch=branch,
        dirty=dirty,
    )


def ledger_of(executor: LocalExecutor, reaper: Reaper) -> Ledger:
    """What was expected, created and left. Whatever the last sweep still found had not been removed in time."""
    tally = executor.tally
    names = tuple(
        f"{f.kind} {f.name}" + (f" of {f.labels[TEST]}" if TEST in f.labels else "") for f in reaper.swept.removed
    )
    return Ledger(
        expected_containers=tally.expected,
        created_containers=tally.created,
        removed_containers=tally.removed + sum(f.kind == "container" for f in reaper.swept.removed),
        left=reaper.swept.left,
        unexpected=names,
    )


def exit_code(
    digest: Digest,
    going: Schedule,
    *,
    config: Config,
    signal_number: int | None,
    ledger: Ledger,
) -> int:
    """The gravest cause wins: a signal, the engine, failed tests, cases that do not exist, violations."""
    if signal_number is not None:
        return SIGNALLED + signal_number
    if digest.outcomes[Outcome.INFRA] or ledger.left:
        return ExitCode.INFRA
    flaky = digest.flaky_tests if config.run.flaky_result == "fail" else 0
    if digest.failed_tests or going.not_run or flaky:
        return ExitCode.TESTS_FAILED
    if digest.absent_tests:
        return ExitCode.NO_TESTS
    if config.run.violations == "fail" and digest.grave_violations:
        return ExitCode.VIOLATIONS
    return ExitCode.OK
