"""The environment in which a command creates, measures and removes containers."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.coordinator.console import note
from orchestrator.coordinator.project import project_name
from orchestrator.coordinator.session import container_context, git_state
from orchestrator.engine.cleanup.reaper import OWNER_FILE, WORK_DIR_PREFIX, Reaper
from orchestrator.engine.docker.availability import EngineAvailability
from orchestrator.engine.docker.connect_errors import away_seconds
from orchestrator.engine.images.agent_shell import prepared_image
from orchestrator.engine.images.ensure import ensure_images
from orchestrator.engine.images.pinned import PinnedImages
from orchestrator.engine.labels import TEST, Owner, run_filter
from orchestrator.engine.slots.executor import LocalExecutor
from orchestrator.engine.slots.slot_factory import SlotFactory
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.model.runs import HostInfo, Ledger, Run
from orchestrator.stop_flag import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine
    from orchestrator.engine.isolation.hardening import ContainerContext
    from orchestrator.model.profiles import ImageSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnvironment:
    """The parts that a run needs while it has containers. `executor` and `reaper` keep their counts afterwards."""

    owner: Owner
    context: ContainerContext
    """The settings that all containers of the run share."""
    work_dir: Path
    """Temporary folder of the run, readable by this user only."""
    stop: StopFlag
    sampler: Sampler
    executor: LocalExecutor
    reaper: Reaper


@contextmanager
def run_environment(
    run_id: str,
    config: Config,
    engine: Engine,
    *,
    images: Mapping[str, str],
    rebuild_image: Callable[[str], str] | None = None,
    notice: Callable[[str], None] = note,
) -> Iterator[RunEnvironment]:
    """Set up the environment of a run; on exit, remove every container and file that the run has made.

    `images` maps the names of images to their IDs. `rebuild_image` builds or pulls an image that somebody removed
    and returns its new ID; without it, tests of a removed image fail. `notice` gets a line when an image is
    rebuilt, when the engine goes away and when it returns. Raises UsageError if the project cannot be mounted.
    """
    patience = away_seconds(os.environ)
    context = container_context(config, engine.info)
    token = owner_token()
    work_dir = _make_work_dir(run_id, token)
    owner = Owner(run_id=run_id, token=token, work_dir=str(work_dir))
    stop = StopFlag()
    with ExitStack() as stack:
        prepared = {name: prepared_image(engine, image_id) for name, image_id in images.items()}
        availability = EngineAvailability(engine, stop, notify=notice, patience_seconds=patience)
        reaper = stack.enter_context(Reaper(engine, owner, availability=availability))
        sampler = stack.enter_context(Sampler())
        stack.callback(availability.close)
        availability.follow(run_filter(run_id))
        slots = SlotFactory(
            engine,
            availability=availability,
            context=context,
            owner=owner,
            images=PinnedImages(prepared, rebuild=rebuild_image, notify=notice),
            sampler=sampler,
            work_dir=work_dir,
        )
        executor = LocalExecutor(slots, stop=stop)
        stack.callback(executor.close)
        yield RunEnvironment(
            owner=owner,
            context=context,
            work_dir=work_dir,
            stop=stop,
            sampler=sampler,
            executor=executor,
            reaper=reaper,
        )


def _make_work_dir(run_id: str, token: str) -> Path:
    """Create the run's temporary folder, with a file that names the owning process for a later `orch clean`."""
    work_dir = Path(tempfile.gettempdir()) / f"{WORK_DIR_PREFIX}{run_id}"
    work_dir.mkdir(mode=0o700)
    (work_dir / OWNER_FILE).write_text(token + "\n", encoding="utf-8")
    return work_dir


def ensure_images_of(
    config: Config,
    names: Iterable[str],
    engine: Engine,
    *,
    offline_base: bool = False,
    on_line: Callable[[str], None] = note,
) -> Mapping[str, str]:
    """Build or pull the named images of the configuration, and those that they are built on, if they are missing.

    Return the ID of each image by its name. With `offline_base`, build on a base made from this machine's package
    mirror if no registry can be reached. `on_line` gets each line of a build's output. Raises ImageError.
    """
    wanted: dict[str, ImageSpec] = {}
    pending = sorted(names)
    while pending:
        name = pending.pop()
        spec = config.images[name]
        if name not in wanted and spec.base is not None:
            pending.append(spec.base)
        wanted[name] = spec
    specs = [wanted[name] for name in sorted(wanted)]
    return ensure_images(engine, specs, offline_base=offline_base, on_line=on_line)


def new_run(
    run_id: str,
    config: Config,
    engine: Engine,
    host: HostInfo,
    images: Mapping[str, str],
    *,
    project_id: str,
    fresh: bool = False,
) -> Run:
    """Return the record of a run that is about to start. `fresh`: `--fresh` was given."""
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
        fresh=fresh,
    )


def ledger_of(executor: LocalExecutor, reaper: Reaper) -> Ledger:
    """Return how many containers were expected, created, removed and left, after the environment was closed.

    An object that the reaper's last sweep removed counts as unexpected: its slot should have removed it.
    """
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
