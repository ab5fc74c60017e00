"""`orch run`: find tests, map each to a profile, run it in a container, measure, record, report.

`run` is the product's flow in its order; what is below it are the steps' details.
"""

from __future__ import annotations

import sys
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.coordinator import own_limits
from orchestrator.coordinator.calibration import calibrate
from orchestrator.coordinator.database import LateDatabase
from orchestrator.coordinator.environment import describe, ground, ledger_of
from orchestrator.coordinator.executor import Execute
from orchestrator.coordinator.exit_code import SIGNALLED, exit_code
from orchestrator.coordinator.output import Output
from orchestrator.coordinator.recorder import Keeping, ended_whatever_happens, put_off
from orchestrator.coordinator.retention import OldRunRemoval
from orchestrator.coordinator.run_folder import RunFolder
from orchestrator.coordinator.selection import budget, make_plan, nothing_selected
from orchestrator.coordinator.session import load, specs_of
from orchestrator.coordinator.signals import Signals
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.images.ensure import ensure_images
from orchestrator.engine.isolation.enforcement import require_enforced
from orchestrator.errors import DatabaseError, ExitCode
from orchestrator.measure.processes import host_info
from orchestrator.model.runs import Run, RunStatus
from orchestrator.reports.run_summary import RunSummary
from orchestrator.scheduling.assign import clamp
from orchestrator.scheduling.events import Policy
from orchestrator.scheduling.scheduler import schedule
from orchestrator.stop_flag import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.config.settings import Config
    from orchestrator.coordinator.environment import Ground
    from orchestrator.coordinator.options import RunOptions
    from orchestrator.database.store.store import Database
    from orchestrator.engine.base import Engine
    from orchestrator.model.suites import LeftOut
    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.scheduler import Event, Schedule
SWITCH_SECONDS = 0.0005
"""Longest turn of one thread while another waits. With Python's 5 ms, a lane that is told of its test's end waits
for the thread that records: 1,000 shell tests one at a time took 9.2 and 9.9 s, with this 8.2 and 7.9 s.
"""


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
        totals=keeping.totals,
        not_run=going.not_run,
        duration_seconds=time.monotonic() - began,
        exit_code=exit_code(keeping.totals, going, config=config, signal_number=signals.received, ledger=ledger),
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
