"""The cost of a test that does nothing on this host, engine and image, to be subtracted from the figures of tests.

Pure, except for the file that stores it.

Measured with null tests, `sh -c :`, in containers like those of real tests. CPU time is subtracted, because it
adds up; peaks are not, because two peaks of different moments do not (docs/design/measure/calibration.md).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

from orchestrator.figures import median_of_known
from orchestrator.files import replace_file
from orchestrator.measure.parts import cap_parts
from orchestrator.measure.processes import boot_id
from orchestrator.model.usage import Source, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from orchestrator.model.runs import EngineInfo

NULL_TESTS = 5
FILE = "calibration.json"
KEPT = 100
"""The largest number of stored calibrations; the oldest are dropped first."""
SUBTRACTED = ("cpu_seconds", "cpu_user_seconds", "cpu_system_seconds")
_VERSION = 2
"""A part of every key. Change it when what is measured here changes, so that older calibrations are not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Medians over null tests; None stands for not measured on this host."""

    runs: int
    source: Source
    """The source of the CPU figures; figures of another source are not corrected."""
    cpu_seconds: float
    """The CPU time of the agent and of a shell that does nothing, between the test's two readings."""
    cpu_user_seconds: float | None
    cpu_system_seconds: float | None
    cpu_spread_seconds: float
    """The highest CPU time of the null tests minus the lowest: the possible error of a corrected figure."""
    memory_floor_bytes: int | None
    memory_rise_bytes: int | None
    """The memory that a test that does nothing needs beyond the floor."""
    start_cpu_seconds: float | None
    """The CPU time of the runtime's start inside the cgroup, before the test's release."""
    start_memory_peak_bytes: int | None
    start_pids_peak: int | None


@dataclass(frozen=True, slots=True)
class Calibrations:
    """The calibrations of a run's images, by image ID."""

    fresh: Mapping[str, Calibration]
    """The calibrations for the first test of a container."""
    reused: Mapping[str, Calibration]
    """The calibrations for a test that comes after another in its container."""

    def of(self, image_id: str, *, reused: bool) -> Calibration | None:
        """Return the calibration of one image, or None if there is none."""
        return (self.reused if reused else self.fresh).get(image_id)


NO_CALIBRATIONS = Calibrations({}, {})


def key_of(info: EngineInfo, image_id: str, *, agent: str, channel: str) -> str:
    """Return the key of what a calibration is valid for: engine, kernel, boot, image (its shell) and agent.

    `channel` names how the container's streams are read.
    """
    boot = boot_id() if info.local else ""
    parts = (
        _VERSION,
        info.name,
        info.version,
        info.kernel,
        boot,
        info.cgroup_version,
        info.cgroup_driver,
        info.rootless,
        os.geteuid() == 0,
        image_id,
        agent,
        channel,
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def calibrate(usages: Sequence[Usage]) -> Calibration | None:
    """Return the calibration by the figures of null tests; None if they have no CPU time of a single source."""
    sources = {usage.sources.get("cpu_seconds") for usage in usages}
    source = sources.pop() if len(sources) == 1 else None
    cpu = [usage.cpu_seconds for usage in usages if usage.cpu_seconds is not None]
    if source is None or len(cpu) < len(usages):
        return None
    rises = [
        usage.memory_peak_bytes
        for usage in usages
        if usage.memory_peak_bytes is not None and not usage.memory_peak_is_upper_bound
    ]
    before = [usage.before_test for usage in usages]
    return Calibration(
        runs=len(usages),
        source=source,
        cpu_seconds=median(cpu),
        cpu_user_seconds=median_of_known(usage.cpu_user_seconds for usage in usages),
        cpu_system_seconds=median_of_known(usage.cpu_system_seconds for usage in usages),
        cpu_spread_seconds=max(cpu) - min(cpu),
        memory_floor_bytes=_whole(usage.memory_floor_bytes for usage in usages),
        memory_rise_bytes=_whole(rises),
        start_cpu_seconds=median_of_known(start.get("cpu_seconds") for start in before),
        start_memory_peak_bytes=_whole(start.get("memory_peak_bytes") for start in before),
        start_pids_peak=_whole(start.get("pids_peak") for start in before),
    )


def _whole(values: Iterable[float | None]) -> int | None:
    found = median_of_known(values)
    return None if found is None else int(found)


def corrected(usage: Usage, calibration: Calibration | None) -> Usage:
    """Return a test's figures minus the cost of doing nothing, never below zero.

    User and system time are never more than the total. `overheads` holds what was subtracted.
    """
    if calibration is None or usage.sources.get("cpu_seconds") is not calibration.source:
        return usage
    known = {name: value for name in SUBTRACTED if (value := getattr(usage, name)) is not None}
    changes: dict[str, float] = {}
    for name, value in known.items():
        cost = getattr(calibration, name)
        if cost:
            changes[name] = max(0.0, value - cost)
    overheads = _overheads(calibration, tuple(changes))
    if changes:
        changes = known | changes
        cap_parts(changes)
    return replace(usage, **changes, overheads=overheads)  # type: ignore[arg-type]  # names of Usage's floats


@lru_cache(maxsize=64)
def _overheads(calibration: Calibration, names: tuple[str, ...]) -> dict[str, float]:
    """Return the subtracted figures: one mapping for all tests with the same ones."""
    return {name: getattr(calibration, name) for name in names}


# ---------------------------------------------------------------- remembered


def load(state_dir: Path) -> dict[str, Calibration]:
    """Return the stored calibrations by key; empty if there is no file, or an invalid one."""
    try:
        entries = json.loads((state_dir / FILE).read_text(encoding="utf-8"))["calibrations"]
        return {str(key): _entry(value) for key, value in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _entry(value: Mapping[str, object]) -> Calibration:
    """Return a calibration from JSON. Raises TypeError or ValueError if it is not valid."""
    names = {field.name for field in fields(Calibration)}
    numbers = {name: number for name, number in value.items() if name != "source"}
    if set(value) != names or not all(n is None or isinstance(n, int | float) for n in numbers.values()):
        raise ValueError("not a calibration")
    return Calibration(source=Source(value["source"]), **numbers)  # type: ignore[arg-type]  # checked above


def store(state_dir: Path, found: Mapping[str, Calibration]) -> None:
    """Add calibrations to the file, which is replaced as a whole. Raises OSError if it cannot be written."""
    entries = {**load(state_dir), **found}
    kept = dict(list(entries.items())[-KEPT:])
    document = {"calibrations": {key: asdict(value) for key, value in kept.items()}}
    state_dir.mkdir(parents=True, exist_ok=True)
    replace_file(state_dir / FILE, f"{json.dumps(document, indent=1)}\n".encode())
