"""orch's own executor for benchmarks: containers, agent and measurement without scheduler, verdicts
and database.
"""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.config.loader import load_config
from orchestrator.coordinator.environment import ensure_images_of, run_environment
from orchestrator.engine.docker.engine import open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine
    from orchestrator.engine.slots.executor import LocalExecutor
    from orchestrator.engine.slots.lane import SlotLane
    from orchestrator.model.tests import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchEnvironment:
    """An executor with the settings of one project."""

    run_id: str
    config: Config
    engine: Engine
    executor: LocalExecutor
    work_dir: Path


@contextmanager
def bench_environment(project: Path) -> Iterator[BenchEnvironment]:
    """Yield an executor for a project's tests; on exit, remove all its containers. Builds missing images."""
    config = load_config(path=None, start=project, env={})
    engine = open_engine()
    images = ensure_images_of(config, {"isolation"}, engine, offline_base=True)
    run_id = uuid.uuid4().hex
    with run_environment(run_id, config, engine, images=images) as environment:
        yield BenchEnvironment(
            run_id=run_id,
            config=config,
            engine=engine,
            executor=environment.executor,
            work_dir=environment.work_dir,
        )


def run_in_lane(lane: SlotLane, tests: Sequence[Assignment], folder: Path) -> None:
    """Run the tests one after another in a lane, each named to it before the one before has ended.

    `folder` receives their output. Raises RuntimeError if a test does not exit with 0.
    """

    def folder_of(assignment: Assignment) -> Path:
        place = folder / assignment.test.id.path.replace("/", "_")
        place.mkdir(exist_ok=True)
        return place

    for test, following in zip(tests, [*tests[1:], None], strict=True):
        evidence = lane.run(test, time.monotonic(), folder_of, lambda following=following: following)
        if evidence.agent is None or evidence.agent.exit_code != 0:
            raise RuntimeError(f"{test.test.id} failed: {evidence.engine_failure or evidence.agent}")
