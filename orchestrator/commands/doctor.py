"""`orch doctor`: check whether this machine can run tests, and name a remedy for each problem."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.coordinator.calibration import key_of
from orchestrator.coordinator.console import say
from orchestrator.coordinator.session import load_with_database, seccomp_text
from orchestrator.engine.cleanup import orphaned_slots
from orchestrator.engine.cleanup.reaper import find_orphans
from orchestrator.engine.docker.addresses import candidate_addresses
from orchestrator.engine.docker.engine import open_engine
from orchestrator.engine.images.agent_shell import find_prepared
from orchestrator.engine.isolation import enforcement
from orchestrator.engine.metering import parent_cgroups
from orchestrator.engine.slots.slot_factory import can_share_fifos
from orchestrator.errors import ExitCode, OrchError
from orchestrator.measure import calibration
from orchestrator.measure.processes import host_info, owner_alive
from orchestrator.reports.json_encoding import to_json
from orchestrator.text import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.config.settings import Config
    from orchestrator.engine.base import Engine
    from orchestrator.model.runs import EngineInfo

LOW_DISK_BYTES = 2 << 30


class Health(StrEnum):
    """Result of a check."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of `orch doctor`, with its finding and its remedy."""

    name: str
    health: Health
    finding: str
    remedy: str = ""


def doctor(*, config_path: Path | None, database: str | None, engine_url: str | None, output_format: str) -> int:
    """Run and print the checks. Return exit code 36 if one failed."""
    checks = []
    for check in _checks(config_path, database, engine_url):
        checks.append(check)
        if output_format == "table":
            say(f"{check.health.value:>8}  {check.name:<12} {check.finding}")
            if check.remedy:
                say(f"{'':>8}  {'':<12} -> {check.remedy}")
    if output_format == "json":
        say(to_json({"schema": 1, "checks": [asdict(c) for c in checks]}))
    return ExitCode.INFRA if any(c.health is Health.FAILED for c in checks) else ExitCode.OK


def _checks(config_path: Path | None, database: str | None, engine_url: str | None) -> Iterator[Check]:
    config: Config | None = None
    try:
        config = load_with_database(config_path, database)
        where = str(config.path) if config.path else "no profiles.yaml; built-in defaults"
        yield Check(name="config", health=Health.OK, finding=where)
    except OrchError as error:
        yield _failed("config", error)
    host = host_info()
    granted = f"{host.cpus:g} cpus, {format_bytes(host.memory_bytes)} granted to this process"
    yield Check(name="host", health=Health.OK, finding=granted)
    try:
        engine = open_engine(engine_url)
    except OrchError as error:
        yield _failed("engine", error)
        tried = ", ".join(candidate_addresses(engine_url, os.environ)) or "no address"
        yield Check(name="socket", health=Health.NOTE, finding=f"tried {tried}")
        return
    yield from _engine_checks(engine.info)
    yield from _disk_checks(engine.info, config)
    if config is not None:
        yield from _config_checks(config, engine)
    yield from _leftovers(engine)


def _failed(name: str, error: OrchError) -> Check:
    return Check(name=name, health=Health.FAILED, finding=error.message, remedy=error.remedy or "")


def _engine_checks(info: EngineInfo) -> Iterator[Check]:
    kind = f"{info.name} {info.version} (API {info.api_version}) at {info.address}"
    yield Check(name="engine", health=Health.OK, finding=f"{kind}{', rootless' if info.rootless else ''}")
    yield Check(
        name="cgroups",
        health=Health.OK,
        finding=f"version {info.cgroup_version}, driver {info.cgroup_driver}, kernel {info.kernel}",
    )
    missing = enforcement.unenforced(info)
    if missing:
        yield Check(
            name="limits",
            health=Health.FAILED,
            finding=f"the engine cannot limit {', '.join(missing)}: tests would run without these limits",
            remedy=enforcement.remedy(info),
        )
    else:
        yield Check(name="limits", health=Health.OK, finding="memory, cpus and pids are enforced")
    yield _figures(info)
    streams = "FIFOs" if can_share_fifos(info) else "the engine's attach call (the engine is remote)"
    yield Check(name="streams", health=Health.OK, finding=streams)
    for warning in info.warnings:
        yield Check(name="engine", health=Health.NOTE, finding=warning)


def _figures(info: EngineInfo) -> Check:
    match parent_cgroups.parent_kind(info):
        case parent_cgroups.ParentKind.OWN:
            finding = "kernel counters of each slot's own parent cgroup"
        case parent_cgroups.ParentKind.LEASED:
            finding = (
                "kernel counters of this user's parent cgroups, as differences; peaks from inside the container"
            )
        case parent_cgroups.ParentKind.NONE:
            return Check(
                name="figures",
                health=Health.NOTE,
                finding="kernel counters that are read inside the container",
                remedy="run orch as root with a local Docker engine for counters that outlive a container",
            )
    return Check(name="figures", health=Health.OK, finding=finding)


def _disk_checks(info: EngineInfo, config: Config | None) -> Iterator[Check]:
    places = [("project", config.state_dir)] if config is not None else []
    if info.local:
        places.append(("engine", Path("/var/lib/docker" if info.name == "docker" else "/var/lib/containers")))
    for name, place in places:
        folder = next((p for p in (place, *place.parents) if p.exists()), None)
        if folder is None or not os.access(folder, os.R_OK):
            continue
        free = shutil.disk_usage(folder).free
        low = free < LOW_DISK_BYTES
        yield Check(
            name=f"disk {name}",
            health=Health.WARNING if low else Health.OK,
            finding=f"{format_bytes(free)} free at {folder}",
            remedy="free space: docker system df shows the use of the engine, orch runs prune frees what orch uses"
            if low
            else "",
        )


def _config_checks(config: Config, engine: Engine) -> Iterator[Check]:
    try:
        seccomp_text(config)
        yield Check(name="seccomp", health=Health.OK, finding=str(config.seccomp or "the built-in profile"))
    except OrchError as error:
        yield _failed("seccomp", error)
    state = next(p for p in (config.state_dir, *config.state_dir.parents) if p.exists())
    if not os.access(state, os.W_OK):
        yield Check(
            name="state",
            health=Health.FAILED,
            finding=f"{state} is not writable",
            remedy="make the project writable, or set state_dir in profiles.yaml or ORCH_STATE_DIR",
        )
    host = host_info()
    for profile in config.profiles.values():
        limits = profile.limits
        if limits.cpus > host.cpus or limits.memory_bytes > host.memory_bytes:
            yield Check(
                name="profile",
                health=Health.NOTE,
                finding=f"{profile.name} ({limits.cpus:g} cpus, {format_bytes(limits.memory_bytes)}) is larger"
                " than this host and will be clamped",
            )
    for name, spec in config.images.items():
        reference = spec.reference or f"orch/test-{name}:latest"
        found = engine.find_image(reference)
        if found is None:
            yield Check(
                name="image",
                health=Health.WARNING,
                finding=f"{name}: not built yet",
                remedy=f"orch build {name}, or orch build --offline-base if no registry can be reached",
            )
        else:
            size = format_bytes(engine.image_bytes(found))
            yield Check(name="image", health=Health.OK, finding=f"{name}: {found[:19]} {size}")
            yield _calibration(config, engine.info, name, find_prepared(engine, found))


def _calibration(config: Config, info: EngineInfo, name: str, prepared_id: str | None) -> Check:
    """Return the calibration of the prepared image, from which containers are created."""
    known = None if prepared_id is None else calibration.load(config.state_dir).get(key_of(info, prepared_id))
    if known is None:
        finding = f"{name}: not measured since the last boot; the next run measures it"
        return Check(name="calibration", health=Health.NOTE, finding=finding)
    start = (
        "?" if known.start_cpu_seconds is None else f"{known.start_cpu_seconds * 1000:.1f} ms",
        format_bytes(known.start_memory_peak_bytes),
    )
    finding = (
        f"{name}: a test that does nothing costs {known.cpu_seconds * 1000:.1f} ms of CPU (subtracted,"
        f" ±{known.cpu_spread_seconds * 500:.1f} ms), floor {format_bytes(known.memory_floor_bytes)};"
        f" the start of the container {start[0]}, peak {start[1]} (not counted)"
    )
    return Check(name="calibration", health=Health.OK, finding=finding)


def _leftovers(engine: Engine) -> Iterator[Check]:
    orphans = find_orphans(engine, owner_alive=owner_alive)
    rest = orphaned_slots.find_of_dead(owner_alive)
    if not orphans and not rest:
        yield Check(name="leftovers", health=Health.OK, finding="none")
        return
    processes = sum(len(one.processes) + len(one.shims) for one in rest)
    held = f" with {processes} processes" if processes else ""
    yield Check(
        name="leftovers",
        health=Health.WARNING,
        finding=f"left by dead runs: {len(orphans)} objects, {len(rest)} cgroups{held}",
        remedy="orch clean removes them" if os.geteuid() == 0 or not rest else "sudo orch clean removes them",
    )
