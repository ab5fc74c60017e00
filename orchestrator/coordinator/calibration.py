"""Calibrate each image by null tests when it is first used on this engine since boot, and store the result."""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engine.isolation.hardening import agent_text
from orchestrator.engine.slots.slot_factory import can_share_fifos
from orchestrator.measure import calibration
from orchestrator.measure.calibration import Calibrations
from orchestrator.model.profiles import Network
from orchestrator.model.tests import Assignment, Command, Test, TestId
from orchestrator.stop_flag import StopLevel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.engine.slots.executor import LocalExecutor
    from orchestrator.measure.calibration import Calibration
    from orchestrator.model.profiles import Profile
    from orchestrator.model.runs import EngineInfo
    from orchestrator.model.usage import Usage
    from orchestrator.stop_flag import StopFlag

NULL_COMMAND = Command(argv=("/bin/sh", "-c", ":"))
NULL_TEST = TestId(path=".orch/null-test")
NULL_SECONDS = 20.0
_Kind = tuple[str, bool]
"""The name of an image, and whether the calibration is for tests that follow another test in their container."""


def key_of(info: EngineInfo, image_id: str, *, reused: bool = False) -> str:
    """Return the key under which a calibration is stored on this host.

    `reused` stands for tests that come after another in their container.
    """
    agent = hashlib.sha256(agent_text().encode()).hexdigest()
    channel = "reused" if reused else "fifos" if can_share_fifos(info) else "attach"
    return calibration.key_of(info, image_id, agent=agent, channel=channel)


def calibrate(
    executor: LocalExecutor,
    plan: Sequence[Assignment],
    *,
    images: Mapping[str, str],
    info: EngineInfo,
    state_dir: Path,
    work_dir: Path,
    stop: StopFlag,
) -> Calibrations:
    """Return calibrations for the images of the plan. Those that are not stored yet are measured and stored.

    An image whose null tests do not pass, for example because it has no shell, gets no calibration: its figures
    are not corrected.
    """
    known = calibration.load(state_dir)
    kinds = {(a.profile.image, reused): a.profile for a in plan for reused in {False, a.profile.reuse > 1}}
    keys = {kind: key_of(info, images[kind[0]], reused=kind[1]) for kind in kinds}
    unknown = {
        kind: _null_tests(profile, plan[0].run_id, reused=kind[1])
        for kind, profile in kinds.items()
        if keys[kind] not in known
    }
    fresh = _measure_all(executor.sibling(), unknown, work_dir, stop) if unknown else {}
    found: tuple[dict[str, Calibration], dict[str, Calibration]] = {}, {}
    for (image, reused), key in keys.items():
        made = known.get(key) or fresh.get((image, reused))
        if made is not None:
            found[reused][images[image]] = made
    if fresh:
        with suppress(OSError):  # if the folder cannot be written, the next run measures again, which takes 0.5 s
            calibration.store(state_dir, {keys[kind]: made for kind, made in fresh.items()})
    return Calibrations(*found)


def _measure_all(
    executor: LocalExecutor, unknown: Mapping[_Kind, Sequence[Assignment]], work_dir: Path, stop: StopFlag
) -> dict[_Kind, Calibration]:
    """Run the null tests of each kind and return their calibrations. Closes the executor.

    Slots are opened ahead of need: opening one takes ten times as long as the null test in it.
    """
    executor.prepare(
        [test for (_, reused), tests in unknown.items() for test in (tests[:1] if reused else tests)],
    )
    fresh: dict[_Kind, Calibration] = {}
    try:
        for kind, tests in unknown.items():
            made = _measure(executor, tests, work_dir, stop, reused=kind[1])
            if made is not None:
                fresh[kind] = made
    finally:
        executor.close()
    return fresh


def _null_tests(profile: Profile, run_id: str, *, reused: bool) -> Sequence[Assignment]:
    """Return the null tests of a profile.

    With `reused`, they run one after another in a container, and the first is not measured.
    """
    count = calibration.NULL_TESTS + reused
    limits = replace(profile.limits, timeout_seconds=NULL_SECONDS)
    quiet = replace(profile, limits=limits, network=Network.NONE, reuse=count if reused else 1)
    kind = "reused" if reused else "fresh"
    return [
        Assignment(
            run_id=run_id,
            test=Test(
                id=TestId(path=f"{NULL_TEST.path}-{profile.image}-{kind}-{number}"),
                suite="",
                command=NULL_COMMAND,
            ),
            profile=quiet,
            reason="calibration",
        )
        for number in range(count)
    ]


def _measure(
    executor: LocalExecutor, tests: Sequence[Assignment], work_dir: Path, stop: StopFlag, *, reused: bool
) -> Calibration | None:
    """Run null tests and return their calibration; None if one fails, or `stop` rises.

    With `reused`, the first test is not measured, because the container is opened for it.
    """
    usages: list[Usage] = []
    lane = executor.lane()
    try:
        with tempfile.TemporaryDirectory(dir=work_dir, prefix="null-") as folder:
            for test, following in zip(tests, (*tests[1:], None), strict=True):
                if stop.level > StopLevel.RUN:
                    return None
                evidence = lane.run(
                    test, time.monotonic(), partial(_place, folder), partial(_next_test, following)
                )
                if evidence.engine_failure is not None or evidence.agent is None or evidence.agent.exit_code != 0:
                    return None
                if evidence.slot.position > 1 or not reused:
                    usages.append(evidence.usage)
    finally:
        lane.close()
    return calibration.calibrate(usages) if usages else None


def _place(folder: str, _: Assignment) -> Path:
    return Path(folder)


def _next_test(following: Assignment | None) -> Assignment | None:
    return following
