"""Calibration at the first use of an image on this engine since boot: null tests, measured once, remembered."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engine.hardening import agent_text
from orchestrator.engine.local import can_share_fifos
from orchestrator.measure import calibration
from orchestrator.model import Assignment, Command, Network, Test, TestId
from orchestrator.stopping import StopLevel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.engine.local import LocalExecutor
    from orchestrator.measure.calibration import Calibration
    from orchestrator.model import EngineInfo, Profile, Usage
    from orchestrator.stopping import StopFlag

NULL_COMMAND = Command(argv=("/bin/sh", "-c", ":"))
NULL_TEST = TestId(path=".orch/null-test")
NULL_SECONDS = 20.0


def key_of(info: EngineInfo, image_id: str) -> str:
    """A calibration's key here and now."""
    agent = hashlib.sha256(agent_text().encode()).hexdigest()
    return calibration.key_of(info, image_id, agent=agent, channel="fifos" if can_share_fifos(info) else "attach")


def calibrated(
    executor: LocalExecutor,
    plan: Sequence[Assignment],
    *,
    images: Mapping[str, str],
    info: EngineInfo,
    state_dir: Path,
    place: Path,
    stop: StopFlag,
) -> dict[str, Calibration]:
    """Image ID -> calibration, for the images of the plan; measured where it is not known. An image whose null
    tests do not pass (it has no shell) has none: its figures stay as they are.
    """
    known = calibration.load(state_dir)
    found: dict[str, Calibration] = {}
    fresh: dict[str, Calibration] = {}
    for profile in {a.profile.image: a.profile for a in plan}.values():
        image_id = images[profile.image]
        key = key_of(info, image_id)
        made = known.get(key) or _measure(executor, profile, plan[0].run_id, place, stop)
        if made is not None:
            found[image_id] = made
            if key not in known:
                fresh[key] = made
    if fresh:
        with suppress(OSError):  # a folder that cannot be written costs the next run half a second
            calibration.store(state_dir, fresh)
    return found


def _measure(
    executor: LocalExecutor, profile: Profile, run_id: str, place: Path, stop: StopFlag
) -> Calibration | None:
    usages: list[Usage] = []
    limits = replace(profile.limits, timeout_seconds=NULL_SECONDS)
    quiet = replace(profile, limits=limits, network=Network.NONE, reuse=1)
    for number in range(1, calibration.NULL_TESTS + 1):
        if stop.level > StopLevel.RUN:
            return None
        assignment = Assignment(
            run_id=run_id,
            test=Test(id=NULL_TEST, suite="", command=NULL_COMMAND),
            profile=quiet,
            reason="calibration",
            attempt=number,
        )
        with tempfile.TemporaryDirectory(dir=place, prefix="null-") as folder:
            evidence = executor.run(assignment, 0.0, Path(folder))
        if evidence.engine_failure is not None or evidence.agent is None or evidence.agent.exit_code != 0:
            return None
        usages.append(evidence.usage)
    return calibration.calibrate(usages)
