"""Where the containers of a run are made, measured and removed: the same for tests and for a diagnosis."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.commands.session import make_place, surroundings
from orchestrator.engine.labels import Owner
from orchestrator.engine.local import LocalExecutor
from orchestrator.engine.reaper import Reaper
from orchestrator.measure.processes import owner_token
from orchestrator.measure.sampler import Sampler
from orchestrator.stopping import StopFlag

if TYPE_CHECKING:
    from collections.abc import Iterator
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
def ground(this: Run, config: Config, engine: Engine) -> Iterator[Ground]:
    """From before the first container to after the last, whatever happens. UsageError: the project cannot be
    mounted.
    """
    around = surroundings(config, engine.info)
    token = owner_token()
    place = make_place(this.id, token)
    owner = Owner(run_id=this.id, token=token, place=str(place))
    stop = StopFlag()
    with ExitStack() as stack:
        reaper = stack.enter_context(Reaper(engine, owner))
        sampler = stack.enter_context(Sampler())
        executor = LocalExecutor(
            engine, around=around, owner=owner, images=this.images, sampler=sampler, stop=stop, work_dir=place
        )
        stack.callback(executor.close)
        yield Ground(owner=owner, place=place, stop=stop, sampler=sampler, executor=executor, reaper=reaper)
