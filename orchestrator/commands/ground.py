"""Where the containers of a run are made, measured and removed: the same for tests and for a diagnosis."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.commands.printing import note
from orchestrator.commands.session import make_place, surroundings
from orchestrator.engine.agent_shell import prepared_image
from orchestrator.engine.labels import Owner, run_filter
from orchestrator.engine.local import LocalExecutor
from orchestrator.engine.pinned import PinnedImages
from orchestrator.engine.presence import Presence
from orchestrator.engine.reaper import Reaper
from orchestrator.engine.unreachable import away_seconds
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.stopping import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine
    from orchestrator.model import Run


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
    around = surroundings(config, engine.info)
    token = owner_token()
    place = make_place(this.id, token)
    owner = Owner(run_id=this.id, token=token, place=str(place))
    stop = StopFlag()
    with ExitStack() as stack:
        prepared = {name: prepared_image(engine, image_id) for name, image_id in this.images.items()}
        presence = Presence(engine, stop, tell=notice, patience_seconds=patience)
        reaper = stack.enter_context(Reaper(engine, owner, presence=presence))
        sampler = stack.enter_context(Sampler())
        stack.callback(presence.close)
        presence.follow(run_filter(this.id))
        executor = LocalExecutor(
            engine,
            around=around,
            owner=owner,
            images=PinnedImages(prepared, again=again, tell=notice),
            sampler=sampler,
            stop=stop,
            work_dir=place,
            presence=presence,
        )
        stack.callback(executor.close)
        yield Ground(owner=owner, place=place, stop=stop, sampler=sampler, executor=executor, reaper=reaper)
