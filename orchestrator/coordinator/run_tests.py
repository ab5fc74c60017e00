"""Run a plan, and record and show its results as they arrive."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from orchestrator.coordinator.calibration import calibrate
from orchestrator.coordinator.environment import ledger_of, run_environment
from orchestrator.coordinator.executor import AttemptRunner
from orchestrator.coordinator.exit_code import exit_code
from orchestrator.coordinator.recorder import ResultRecorder
from orchestrator.coordinator.run_folder import RunFolder
from orchestrator.coordinator.signals import Signals
from orchestrator.model.runs import Run, RunStatus
from orchestrator.reports.run_summary import RunSummary
from orchestrator.scheduling.assign import clamp
from orchestrator.scheduling.events import Policy
from orchestrator.scheduling.scheduler import schedule
from orchestrator.stop_flag import StopLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.config.settings import Config
    from orchestrator.coordinator.database import LazyDatabase
    from orchestrator.coordinator.environment import RunEnvironment
    from orchestrator.coordinator.output.run_output import RunOutput
    from orchestrator.coordinator.retention import OldRunRemoval
    from orchestrator.database.store.store import Database
    from orchestrator.engine.base import Engine
    from orchestrator.model.tests import Assignment
    from orchestrator.scheduling.admission import Budget
    from orchestrator.scheduling.scheduler import Event, Schedule

SWITCH_SECONDS = 0.0005
"""The longest time that one thread keeps the interpreter while another waits for it. With Python's default of
5 ms, a lane whose test has ended waits for the thread that records results: 1,000 shell tests, one at a time,
took 9.2 and 9.9 s, and 8.2 and 7.9 s with this value.
"""


def run_tests(
    this: Run,
    plan: Sequence[Assignment],
    *,
    config: Config,
    engine: Engine,
    limits: Budget,
    rebuild_image: Callable[[str], str],
    database: LazyDatabase,
    removal: OldRunRemoval,
    output: RunOutput,
) -> RunSummary:
    """Run the plan and return the summary of the run.

    `rebuild_image` builds or pulls an image by its name and returns its ID; it is called if somebody removes an
    image while the run uses it.
    """
    began = time.monotonic()
    folder = RunFolder(config.state_dir, this)
    sys.setswitchinterval(SWITCH_SECONDS)
    with run_environment(
        this.id, config, engine, images=this.images, rebuild_image=rebuild_image, notice=output.notice
    ) as environment:
        progress = output.progress(folder, environment.sampler)
        recorder = ResultRecorder(this.id, database=database, folder=folder, progress=progress)

        def record_start(db: Database) -> None:
            db.begin_run(this, plan, owner=environment.owner.token)

        def on_event(event: Event) -> None:
            recorder.event(event)
            database.open_in_background(record_start)
            removal.begin_soon(environment.stop)

        with Signals(environment.stop, progress.running_lines) as signals:
            try:
                progress.start(this, plan)
                results = scheduled(
                    this,
                    plan,
                    config=config,
                    engine=engine,
                    environment=environment,
                    folder=folder,
                    limits=limits,
                    on_event=on_event,
                )
                for result in results:
                    recorder.result(result)
            finally:
                database.open_in_background(record_start)  # also records a run that ended before its first test
                recorder.flush()
            progress.close()
    ledger = ledger_of(environment.executor, environment.reaper)
    totals = recorder.totals
    return RunSummary(
        run=this,
        status=RunStatus.INTERRUPTED if environment.stop.level >= StopLevel.TERMINATE else RunStatus.FINISHED,
        totals=totals,
        not_run=results.not_run,
        duration_seconds=time.monotonic() - began,
        exit_code=exit_code(totals, results, config=config, signal_number=signals.received, ledger=ledger),
        ledger=ledger,
    )


def scheduled(
    this: Run,
    plan: Sequence[Assignment],
    *,
    config: Config,
    engine: Engine,
    environment: RunEnvironment,
    folder: RunFolder,
    limits: Budget,
    on_event: Callable[[Event], None],
) -> Schedule:
    """Return the schedule of the plan; iterating over it runs the tests and yields their results.

    Before that, profiles are lowered to what the host has, and images without a calibration are calibrated.
    """
    profiles = {name: clamp(profile, this.host)[0] for name, profile in config.profiles.items()}
    calibrations = calibrate(
        environment.executor,
        plan,
        images=this.images,
        info=engine.info,
        state_dir=config.state_dir,
        work_dir=environment.work_dir,
        stop=environment.stop,
    )
    runner = AttemptRunner(
        environment.executor,
        folder,
        calibrations=calibrations,
        profiles=profiles,
        default_profile=config.default_profile,
        judge_budgets=config.run.violations != "off",
    )
    return schedule(
        plan,
        runner,
        budget=limits,
        policy=policy(config),
        stop=environment.stop,
        profiles=profiles,
        on_event=on_event,
    )


def policy(config: Config) -> Policy:
    """Return the rules for retries and for ending the run early."""
    return Policy(
        max_fail=config.run.max_fail,
        flaky_fails=config.run.flaky_result == "fail",
        deadline_seconds=config.run.timeout_seconds,
    )
