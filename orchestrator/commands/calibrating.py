"""Calibration at the first use of an image on this engine since boot: null tests, measured once, remembered."""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
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


def key_of(info: EngineInfo, image_id: str, *, turns: bool = False) -> str:
    """A calibration's key here and now. `turns`: of tests that come after another in their container."""
    agent = hashlib.sha256(agent_text().encode()).hexdigest()
    channel = "turns" if turns else "fifos" if can_share_fifos(info) else "attach"
    return calibration.key_of(info, image_id, agent=agent, channel=channel)


def calibrate(
    executor: LocalExecutor,
    plan: Sequence[Assignment],
    *,
    images: Mapping[str, str],
    info: EngineInfo,
    state_dir: Path,
    place: Path,
    stop: StopFlag,
) -> None:
    """Give the executor calibrations for the images of the plan, measured where they are not known. An image whose
    null tests do not pass (it has no shell) gets none: its figures stay as they are.
    """
    known = calibration.load(state_dir)
    fresh: dict[str, Calibration] = {}
    apart = executor.apart()
    found: tuple[dict[str, Calibration], dict[str, Calibration]] = {}, {}
    kinds = {(a.profile.image, turns): a.profile for a in plan for turns in {False, a.profile.reuse > 1}}
    for (image, turns), profile in kinds.items():
        key = key_of(info, images[image], turns=turns)
        made = known.get(key) or _measure(apart, profile, plan[0].run_id, place, stop, turns=turns)
        if made is not None:
            found[turns][images[image]] = made
            if key not in known:
                fresh[key] = made
    apart.close()
    executor.calibrations, executor.turn_calibrations = found
    if fresh:
        with suppress(OSError):  # a folder that cannot be written costs the next run half a second
            calibration.store(state_dir, fresh)


def _measure(
    executor: LocalExecutor, profile: Profile, run_id: str, place: Path, stop: StopFlag, *, turns: bool
) -> Calibration | None:
    """`turns`: of null tests one after another in a container, but for the first."""
    count = calibration.NULL_TESTS + turns
    limits = replace(profile.limits, timeout_seconds=NULL_SECONDS)
    quiet = replace(profile, limits=limits, network=Network.NONE, reuse=count if turns else 1)
    tests = [
        Assignment(
            run_id=run_id,
            test=Test(id=TestId(path=f"{NULL_TEST.path}-{number}"), suite="", command=NULL_COMMAND),
            profile=quiet,
            reason="calibration",
        )
        for number in range(count)
    ]
    usages: list[Usage] = []
    lane = executor.lane()
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix="null-") as folder:
            for test, following in zip(tests, (*tests[1:], None), strict=True):
                if stop.level > StopLevel.RUN:
                    return None
                evidence = lane.run(test, time.monotonic(), partial(_place, folder), partial(_itself, following))
                if evidence.engine_failure is not None or evidence.agent is None or evidence.agent.exit_code != 0:
                    return None
                if evidence.slot.position > 1 or not turns:
                    usages.append(evidence.usage)
    finally:
        lane.close()
    return calibration.calibrate(usages) if usages else None


def _place(folder: str, _: Assignment) -> Path:
    return Path(folder)


def _itself(following: Assignment | None) -> Assignment | None:
    return following
