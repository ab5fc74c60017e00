"""`orch clean`: remove the objects of runs whose orch process is dead; those of a live orch stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.config.units import parse_duration
from orchestrator.coordinator.console import say
from orchestrator.engine.cleanup import orphaned_slots
from orchestrator.engine.cleanup.reaper import Swept, find_orphans, remove_orphans, stale_work_dirs
from orchestrator.engine.docker.engine import open_engine
from orchestrator.errors import ExitCode
from orchestrator.measure.processes import owner_alive

if TYPE_CHECKING:
    from orchestrator.engine.base import FoundObject


def clean(*, engine_url: str | None, older_than: str | None, dry_run: bool) -> int:
    """Find, list and remove the objects; with `dry_run`, only list them. Return 36 if one could not be removed."""
    age_seconds = parse_duration(older_than) if older_than else 0.0
    engine = open_engine(engine_url)
    found = find_orphans(engine, owner_alive=owner_alive, older_than_seconds=age_seconds)
    work_dirs = stale_work_dirs(owner_alive=owner_alive, older_than_seconds=age_seconds)
    word = "would remove" if dry_run else "removing"
    for item in found:
        say(f"{word} {_named(item)}")
    for work_dir in work_dirs:
        say(f"{word} folder {work_dir}")
    swept = Swept() if dry_run else remove_orphans(engine, found, work_dirs=work_dirs)
    # after the containers, because removing those that the engine knows removes their cgroups too
    rest = orphaned_slots.find_of_dead(owner_alive)
    for one in rest:
        say(f"{word} {one.text}")
    if not found and not work_dirs and not rest:
        say("nothing to clean")
        return ExitCode.OK
    if dry_run:
        return ExitCode.OK
    left = (*swept.left, *orphaned_slots.remove(rest))
    for problem in left:
        say(f"not removed: {problem}")
    say(f"{len(swept.removed)} objects, {len(work_dirs)} folders and {len(rest)} cgroups removed")
    return ExitCode.INFRA if left else ExitCode.OK


def _named(item: FoundObject) -> str:
    from orchestrator.engine import labels

    run = item.labels.get(labels.RUN, "?")[:8]
    test = item.labels.get(labels.TEST)
    return f"{item.kind} {item.name} of run {run}" + (f", test {test}" if test else "")
