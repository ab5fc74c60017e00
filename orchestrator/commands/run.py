"""`orch run`: find the tests, map each to a profile, run it in a container, measure, record and report it.

The function `run` shows all steps in the order in which they happen; the modules that it calls have the details.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.coordinator.database import LazyDatabase
from orchestrator.coordinator.environment import ensure_images_of, new_run
from orchestrator.coordinator.exit_code import SIGNALLED
from orchestrator.coordinator.output.run_output import RunOutput
from orchestrator.coordinator.process_limits import require_process_limits
from orchestrator.coordinator.recorder import mark_interrupted_on_error, recorded_end
from orchestrator.coordinator.retention import OldRunRemoval
from orchestrator.coordinator.run_tests import run_tests
from orchestrator.coordinator.selection import budget, handle_empty_selection, make_plan, with_notice
from orchestrator.coordinator.session import load
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.isolation.enforcement import require_enforced
from orchestrator.engine.slots.slot_factory import can_share_fifos
from orchestrator.errors import ExitCode
from orchestrator.measure.processes import host_info
from orchestrator.scheduling.fresh_containers import all_fresh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.coordinator.options import RunOptions
    from orchestrator.model.suites import LeftOut


def run(options: RunOptions) -> int:
    """Run the selected tests and return the exit code."""
    config = load(options.config_path, options.overrides())
    host = host_info()
    output = RunOutput(options, config)
    removal = OldRunRemoval(config.state_dir, config.retention)
    with LazyDatabase(config, output.notices, reading=options.dry_run) as database, removal:
        run_id = str(uuid.uuid4())
        left_out: list[LeftOut] = []
        plan = make_plan(
            options, config, host=host, run_id=run_id, earlier=database, notice=output.notice, left_out=left_out
        )
        if not plan:
            handle_empty_selection(config, output.notice)
            return ExitCode.OK
        limits = budget(config, host, plan)
        if options.dry_run:
            return output.plan(plan, limits)
        require_process_limits(
            config.run.jobs or limits.slots, profiles=(a.profile for a in plan), state_dir=config.state_dir
        )

        engine = open_engine(options.engine_url)
        if not can_share_fifos(engine.info):
            plan = all_fresh(plan, "this engine cannot reuse them", only_auto=True)
        plan = with_notice(plan, require_enforced(engine.info, allow=options.allow_unenforced))

        def ensure_images() -> Mapping[str, str]:
            names = {a.profile.image for a in plan}  # a promoted test keeps its image
            return ensure_images_of(
                config, names, engine, offline_base=options.offline_base, on_line=output.building
            )

        this = new_run(
            run_id,
            config,
            engine,
            host,
            ensure_images(),
            project_id=database.keep_project(),
            fresh=options.fresh,
        )
        with mark_interrupted_on_error(run_id, database.get):
            summary = run_tests(
                this,
                plan,
                config=config,
                engine=engine,
                limits=limits,
                rebuild_image=lambda name: ensure_images()[name],
                database=database,
                removal=removal,
                output=output,
            )
        summary = replace(summary, left_out=tuple(left_out))
        with recorded_end(database.get(), summary, config.retention):
            output.summary(summary)
            # not after Ctrl-C, when the user waits for the end; the next run does it
            if summary.exit_code < SIGNALLED:
                output.notices(removal.finish())
    return summary.exit_code
