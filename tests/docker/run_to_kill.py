"""A run in a process of its own that test_reaper_real kills: a Reaper around two tests that sleep.

python run_to_kill.py IMAGE_ID RUN_ID FOLDER
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engine.cleanup.reaper import Reaper
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.isolation.hardening import ContainerContext
from orchestrator.engine.labels import Owner
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.stop_flag import StopFlag
from tests.support.handmade import OPEN_SECCOMP, make_assignment

if TYPE_CHECKING:
    from orchestrator.model.tests import Assignment


def run(executor: LocalExecutor, assignment: Assignment, kept: Path) -> None:
    """Print the problem of a test that ended too early."""
    print(executor.run(assignment, 0.0, kept), file=sys.stderr)


def main(image_id: str, run_id: str, folder: Path) -> None:
    place = folder / f"orch-{run_id}"
    place.mkdir()
    project = folder / "project"  # only our user may enter the folder itself
    project.mkdir(mode=0o755)
    owner = Owner(run_id=run_id, token=owner_token(), work_dir=str(place))
    engine = open_engine()
    with Reaper(engine, owner) as reaper, Sampler() as sampler:
        assert reaper._watchdog is not None
        executor = LocalExecutor(
            SlotFactory(
                engine,
                availability=EngineAvailability(engine, StopFlag()),
                context=ContainerContext(project_root=project, state_dir=None, seccomp=OPEN_SECCOMP, counters=()),
                owner=owner,
                images={"tiny": image_id},
                sampler=sampler,
                work_dir=place,
            ),
            stop=StopFlag(),
        )
        threads = []
        for number in (1, 2):
            kept = folder / f"attempt-{number}"
            kept.mkdir()
            assignment = make_assignment(
                "sleep", "60", run_id=run_id, path=f"tests/{number}.sh", timeout_seconds=90.0
            )
            threads.append(threading.Thread(target=run, args=(executor, assignment, kept)))
            threads[-1].start()
        print(reaper._watchdog.pid, flush=True)
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
