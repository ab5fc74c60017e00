"""Where the containers of a run are made, measured and removed: the same for tests and for a diagnosis."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.config.settings import Config
from orchestrator.coordinator.console import note
from orchestrator.coordinator.project import project_name
from orchestrator.coordinator.session import container_context, git_state, make_work_dir
from orchestrator.engine.base import Engine
from orchestrator.engine.cleanup.reaper import Reaper
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.docker.connect_errors import away_seconds
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.engine.images.pinned import PinnedImages
from orchestrator.engine.labels import TEST, Owner, run_filter
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model.runs import HostInfo, Ledger, Run
from orchestrator.stop_flag import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a run has while its containers are there. Executor and reaper tell their counts after it."""

    owner: Owner
    place: Path
    """The run's temporary folder."""
    stop: StopFlag
    sampler: Sampler
    executor: LocalExecutor
    reaper: Reaper


@contextmanager
def ground(
    this: Run,
    config: Config,
    engine: Engine,
    *,
    again: Callable[[str], str] | None = None,
    notice: Callable[[str], None] = note,
) -> Iterator[Ground]:
    """From before the first container to after the last, whatever happens. `again` builds or pulls an image that
    somebody removed. `notice` is told of that, of an engine that goes away, and of its return. UsageError: the
    project cannot be mounted.
    """
    patience = away_seconds(os.environ)
    context = container_context(config, engine.info)
    token = owner_token()
    place = make_work_dir(this.id, token)
    owner = Owner(run_id=this.id, token=token, work_dir=str(place))
    stop = StopFlag()
    with ExitStack() as stack:
        prepared = {name: prepared_image(engine, image_id) for name, image_id in this.images.items()}
        availability = EngineAvailability(engine, stop, notify=notice, patience_seconds=patience)
        reaper = stack.enter_context(Reaper(engine, owner, availability=availability))
        sampler = stack.enter_context(Sampler())
        stack.callback(availability.close)
        availability.follow(run_filter(this.id))
        executor = LocalExecutor(
            engine,
            context=context,
            owner=owner,
            images=PinnedImages(prepared, rebuild=again, notify=notice),
            sampler=sampler,
            stop=stop,
            work_dir=place,
            availability=availability,
        )
        stack.callback(executor.close)
        yield Ground(owner=owner, place=place, stop=stop, sampler=sampler, executor=executor, reaper=reaper)


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
