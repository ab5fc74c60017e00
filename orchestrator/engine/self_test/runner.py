"""Runs the probes in two containers of a profile, side by side, through the executor that runs tests."""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engine.self_test.cis_benchmark import Check, cis
from orchestrator.engine.self_test.expectations import (
    GROUPS,
    PLAIN,
    REACHING,
    Pair,
    assignment,
    lowered_profile,
    plain_profile,
    with_words,
)
from orchestrator.engine.slots.lane import SlotLane
from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.engine.base import Engine
    from orchestrator.engine.slots.executor import LocalExecutor
    from orchestrator.engine.slots.open_slot import OpenSlot
    from orchestrator.model.evidence import Evidence
    from orchestrator.model.profiles import Profile
    from orchestrator.model.tests import Assignment

LOOK_SECONDS = (0.9, 5.0)
"""The seconds from the release of both containers to the search for each other's marks, for each attempt."""
HOLD_SECONDS = 0.3
NO_PYTHON = 127
_MADE = "; made "


@dataclass(slots=True)
class _Side:
    """One of the two containers of a profile, with its assignment."""

    held: OpenSlot
    assignment: Assignment
    probes: Sequence[str]
    given: bool = False
    """True if the container was passed to a lane, which removes it."""
    evidence: Evidence | None = None


def check_profile(executor: LocalExecutor, profile: Profile, *, run_id: str, work_dir: Path) -> tuple[Check, ...]:
    """Return all checks of a profile, sorted by group. Raises EngineError if a container could not be run.

    `work_dir` is the run's temporary folder on this machine.
    """
    seen: list[Check] = []
    for look_seconds in LOOK_SECONDS:
        with tempfile.TemporaryDirectory(dir=work_dir, prefix="self-test-") as folder:
            seen = _try_pair(executor, profile, run_id, Path(folder), look_seconds)
        if _were_together(seen):
            break
    return tuple(sorted(_with_overlap(seen), key=lambda check: check.group))


def _try_pair(
    executor: LocalExecutor, profile: Profile, run_id: str, work_dir: Path, look_seconds: float
) -> list[Check]:
    with ExitStack() as stack:
        first = stack.enter_context(_opened(executor, assignment(run_id, plain_profile(profile), 1), PLAIN))
        second = stack.enter_context(_opened(executor, assignment(run_id, lowered_profile(profile), 2), REACHING))
        inspected = executor.slots.engine.inspect(first.held.session.container_id)
        _give_words(executor.slots.engine, (first, second), work_dir, look_seconds)
        threads = [
            threading.Thread(target=_run, args=(executor, side, work_dir / str(number)))
            for number, side in enumerate((first, second))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    both = (*_of(first, "as configured"), *_of(second, "lower limits"))
    return [*both, *cis(first.held.container.spec, inspected.effective)]


@contextmanager
def _opened(executor: LocalExecutor, one: Assignment, probes: Sequence[str]) -> Iterator[_Side]:
    """Open a container whose agent waits for the probes, and close it afterwards."""
    side = _Side(held=executor.open(one), assignment=one, probes=probes)
    try:
        yield side
    finally:
        if not side.given:
            executor.close_slot(side.held)


def _give_words(engine: Engine, sides: Sequence[_Side], work_dir: Path, look_seconds: float) -> None:
    names = [f"orch-{secrets.token_hex(6)}" for _ in sides]
    keys = [0x4F000000 + secrets.randbelow(1 << 23) for _ in sides]
    host_file = work_dir / names[0]
    host_file.touch()
    look_at = time.time() + look_seconds
    for number, side in enumerate(sides):
        pair = Pair(
            name=names[number],
            other=names[1 - number],
            key=keys[number],
            other_key=keys[1 - number],
            look_at=look_at,
            hold_until=look_at + HOLD_SECONDS,
        )
        spec = side.held.container.spec
        image_env = engine.image_env(spec.image_id)
        side.assignment = with_words(
            side.assignment, spec, probes=side.probes, pair=pair, image_env=image_env, host_file=str(host_file)
        )


def _run(executor: LocalExecutor, side: _Side, folder: Path) -> None:
    folder.mkdir()
    side.given = True
    lane = SlotLane(executor.lane_context(), take=lambda _: side.held, retire=executor.close_slot)
    try:
        side.evidence = lane.run(side.assignment, time.monotonic(), lambda _: folder)
    finally:
        lane.close()


def _of(side: _Side, name: str) -> Iterator[Check]:
    """Yield the checks of the probes of one container, and whether its settings were as requested."""
    evidence = side.evidence
    if evidence is None or evidence.engine_failure is not None:
        raise EngineError(
            f"the self-test's container failed: {evidence.engine_failure if evidence else 'no result'}"
        )
    said = list(_said(evidence))
    code = None if evidence.agent is None else evidence.agent.exit_code
    why = "the image has no python3, which the probes need" if code == NO_PYTHON else _why(evidence)
    for group in sorted({14, *(GROUPS[name] for name in side.probes)} - {check.group for check in said}):
        yield Check(group=group, check="the probes run", proven=False, observed=f"exit code {code}", reason=why)
    for check in said:
        yield replace(check, check=f"{check.check} ({name})") if check.group == 14 else check
    found = evidence.attestation
    differs = "; ".join(found.mismatches) if found is not None else "nothing was read back"
    yield Check(
        group=16,
        check=f"everything asked for is read back the same ({name})",
        proven=found is not None and not found.mismatches,
        observed=differs[:300] or "by the engine and by the kernel",
    )


def _why(evidence: Evidence) -> str:
    lines = evidence.stderr.tail.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "the probes ended without a word"


def _said(evidence: Evidence) -> Iterator[Check]:
    if evidence.stdout.path is None:
        return
    for line in evidence.stdout.path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield Check(**json.loads(line))
        except (ValueError, TypeError):
            continue


def _were_together(checks: Sequence[Check]) -> bool:
    """Return whether each container searched for marks while the other's marks existed."""
    times = [_times(check.observed) for check in checks if check.group == 14 and _MADE in check.observed]
    if len(times) != 2:
        return False
    made, looked, held = zip(*times, strict=True)
    return bool(max(made) < min(looked) and max(looked) < min(held))


def _with_overlap(checks: Sequence[Check]) -> Iterator[Check]:
    together = _were_together(checks)
    for check in checks:
        if check.group != 14 or _MADE not in check.observed:
            yield check
            continue
        reason = "" if together else "the two were not there at the same time: this machine is too busy"
        observed = check.observed.partition(_MADE)[0]
        yield replace(check, observed=observed, proven=bool(check.proven) and together, reason=reason)


def _times(observed: str) -> tuple[float, float, float]:
    words = observed.split()
    made, looked, held = (float(words[words.index(word) + 1]) for word in ("made", "looked", "held"))
    return made, looked, held
