"""Compares the settings in effect for a container with those requested (attestation). Pure.

There are three sources: the engine's inspect call, the kernel's files as the agent reads them in the container
(`effective_limits`), and /proc of its process 1 on this machine (`kernel_view`). A setting that no source reports
is None and no mismatch. docs/design/engine/attestation.md has the measured tolerances.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import labels
from orchestrator.engine.docker.inspected_settings import text_digest
from orchestrator.engine.isolation.attestation_mounts import DEVICES, LARGEST_PAGE_BYTES, mounts_differ
from orchestrator.engine.isolation.effective_limits import parse_effective_limits
from orchestrator.engine.isolation.kernel_view import MASKED, NAMESPACES, READ_ONLY, parse_agent_view
from orchestrator.model.evidence import Attestation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.engine.base import ContainerSpec, EffectiveSettings, Inspection, Mount
    from orchestrator.engine.isolation.effective_limits import EffectiveLimits
    from orchestrator.engine.isolation.kernel_view import KernelView
    from orchestrator.model.runs import EngineInfo

SYSTEMD_CPUS = 0.01
"""The step of a CPU limit under systemd, which stores a quota in whole percent of a CPU."""
SECCOMP_FILTER = 2
CAPABILITY_BITS = {"SYS_PTRACE": 19}
"""The bit numbers (linux/capability.h) of the capabilities that a profile may add; others are not compared."""


def attest(
    inspection: Inspection,
    *,
    asked: ContainerSpec,
    begin: str,
    info: EngineInfo,
    host_view: KernelView | None = None,
) -> Attestation:
    """Return the settings that were in effect for a container, and their differences from those requested.

    `begin` is the text of the agent's `begin` section, empty if there was no agent. `host_view` is the container's
    process 1 as read from this machine's /proc, None if it cannot be read from here.
    """
    effective, held = inspection.effective, parse_effective_limits(begin)
    view = host_view or parse_agent_view(begin)
    memory = effective.memory_bytes if held.memory_bytes is None else _whole(held.memory_bytes)
    pids = effective.pids if held.pids is None else _whole(held.pids)
    cpus = effective.cpus if held.cpus is None else _finite(held.cpus)
    privileges = effective.no_new_privileges if held.no_new_privileges is None else held.no_new_privileges
    return Attestation(
        container_name=inspection.name,
        container_id=inspection.id,
        image_id=effective.image_id or "",
        limits_from_kernel=None not in (held.memory_bytes, held.cpus, held.pids),
        effective_memory_bytes=memory,
        effective_cpus=cpus,
        effective_pids=pids,
        network=effective.network,
        capabilities=effective.capabilities_added,
        seccomp=effective.seccomp,
        read_only_root=effective.read_only_root,
        user=effective.user,
        capabilities_effective=held.capabilities_effective,
        capabilities_bounding=held.capabilities_bounding,
        no_new_privileges=privileges,
        seccomp_mode=held.seccomp_mode,
        engine=f"{info.name} {info.version}",
        kernel=info.kernel or None,
        cgroup_version=info.cgroup_version,
        mismatches=(
            *_of_kernel(asked, held, info),
            *(_of_agent(held) if begin.strip() else ()),
            *_of_process(asked, view),
            *mounts_differ(asked, view, info),
            *_of_engine(asked, effective, info),
            *_of_engines_process(asked, effective, inspection),
        ),
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _whole(number: float) -> int | None:
    return int(number) if math.isfinite(number) else None


# ---------------------------------------------------------------- settings that the kernel reports


def _of_kernel(asked: ContainerSpec, held: EffectiveLimits, info: EngineInfo) -> Iterator[str]:
    """Yield the differences between the requested limits and those that the kernel enforces."""
    if held.memory_bytes is not None and not 0 <= asked.memory_bytes - held.memory_bytes < LARGEST_PAGE_BYTES:
        yield f"memory limit: {asked.memory_bytes} bytes asked, {_say(held.memory_bytes)} in the kernel"
    if held.swap_bytes is not None and not 0 <= asked.memory_bytes - held.swap_bytes < LARGEST_PAGE_BYTES:
        yield f"memory and swap: {asked.memory_bytes} bytes asked, {_say(held.swap_bytes)} in the kernel"
    step = max(held.cpu_step, SYSTEMD_CPUS if info.cgroup_driver == "systemd" else 0.0)
    if held.cpus is not None and not abs(held.cpus - asked.cpus) <= step * 1.001:
        yield f"CPU limit: {asked.cpus:g} CPUs asked, {_say(held.cpus)} in the kernel"
    if held.pids is not None and held.pids != asked.pids:
        yield f"pids limit: {asked.pids} asked, {_say(held.pids)} in the kernel"
    yield from _capabilities(asked, held)
    if held.no_new_privileges is False:
        yield "no-new-privileges asked, not set in the kernel"
    if held.seccomp_mode is not None and held.seccomp_mode != SECCOMP_FILTER:
        yield f"a seccomp profile asked, seccomp mode {held.seccomp_mode} in the kernel"
    more = sorted(set(held.devices or ()) - DEVICES - ({"console"} if asked.tty else set()))
    if more:
        yield f"nobody asked for what is in /dev: {', '.join(more)}"


def _of_agent(held: EffectiveLimits) -> Iterator[str]:
    """Yield a mismatch if tests can read the agent's memory, or the agent does not report it."""
    if held.agent_readable is None:
        yield "the agent did not say whether tests can read its memory"
    elif held.agent_readable:
        yield (
            "tests can read the memory of process 1: its program file is readable for their user, or the sysctl "
            "fs.suid_dumpable of this machine is 1"
        )


def _capabilities(asked: ContainerSpec, held: EffectiveLimits) -> Iterator[str]:
    """Yield a mismatch unless the bounding set is the requested one and contains the effective set."""
    bits = [CAPABILITY_BITS.get(name.removeprefix("CAP_")) for name in asked.capabilities]
    if None in bits or held.capabilities_bounding is None:
        return
    wanted = sum(1 << bit for bit in bits if bit is not None)
    bounding = int(held.capabilities_bounding, 16)
    effective = int(held.capabilities_effective or "0", 16)
    if bounding != wanted or effective & ~wanted:
        given = ", ".join(asked.capabilities) or "none"
        yield f"capabilities: {given} asked, effective {effective:x} and bounding {bounding:x} in the kernel"


def _of_process(asked: ContainerSpec, view: KernelView) -> Iterator[str]:
    """Yield the differences in limits, ids and namespaces of process 1."""
    for name, wanted, found in (
        ("open files", (asked.nofile, asked.nofile), view.nofile),
        ("core dumps", (0, 0), view.core),
        ("oom_score_adj", 0, view.oom_score_adj),
    ):
        if found is not None and found != wanted:
            yield f"{name}: {wanted} asked, {found} in the kernel"
    if view.pids is not None and len(view.pids) < 2:
        yield "a process namespace of its own asked, this machine's in the kernel"
    for name in NAMESPACES:
        if name in (view.shared_namespaces or ()):
            yield f"a namespace of its own asked, this machine's {name} namespace in the kernel"
    yield from _identity(asked, view)


def _identity(asked: ContainerSpec, view: KernelView) -> Iterator[str]:
    user, _, group = asked.user.partition(":")
    for name, wanted, found in (("user", user, view.uids), ("group", group, view.gids)):
        if found is not None and wanted.isdigit() and set(found) != {int(wanted)}:
            yield f"{name}: {wanted} asked, {', '.join(map(str, sorted(set(found))))} in the kernel"


# ---------------------------------------------------------------- settings that the engine reports


def _of_engine(asked: ContainerSpec, effective: EffectiveSettings, info: EngineInfo) -> Iterator[str]:
    """Yield the differences between the requested settings and those that the engine reports."""
    podman = info.name == "podman"
    swap = effective.swap_bytes if info.swap_limit or effective.swap_bytes != -1 else None
    pairs = (
        ("image", asked.image_id, effective.image_id),
        ("memory limit", asked.memory_bytes, effective.memory_bytes),
        ("memory and swap", asked.memory_bytes, swap),
        ("pids limit", asked.pids, effective.pids),
        ("open files", (asked.nofile, asked.nofile), effective.nofile),
        ("core dumps", (0, 0), effective.core),
        ("shared memory", asked.shm_bytes, effective.shm_bytes),
        ("user", asked.user, effective.user),
        ("read-only root", asked.read_only_root, effective.read_only_root),
        # engines report networks by names of their own, except for `none`
        ("network", asked.network, effective.network if "none" in (asked.network, effective.network) else None),
        ("IPC namespace", "private", None if podman else effective.ipc),
        ("cgroup namespace", "private", effective.cgroup_namespace),
        ("log driver", "none", effective.log_driver),
        ("restart policy", "no", effective.restart),
        ("health check", False, effective.health_check),
        ("parent cgroup", asked.cgroup_parent, None if asked.cgroup_parent is None else effective.cgroup_parent),
        ("capabilities", _listed(asked.capabilities), None if podman else _listed(effective.capabilities_added)),
        ("no-new-privileges", True, None if podman else effective.no_new_privileges),
    )
    for name, wanted, found in pairs:
        if found is not None and found != wanted:
            yield f"{name}: {wanted} asked, {found} by the engine's inspect"
    if effective.cpus is not None and not abs(effective.cpus - asked.cpus) < 1e-6:
        yield f"CPU limit: {asked.cpus:g} CPUs asked, {effective.cpus:g} by the engine's inspect"
    if not podman and effective.capabilities_dropped not in (None, ("ALL",)):
        yield "all capabilities asked to be dropped, not so by the engine's inspect"
    yield from _seccomp(asked, effective)
    if not podman and effective.tmpfs is not None:
        yield from _tmpfs(asked.tmpfs, effective.tmpfs)
    yield from _closed(effective)
    for target in sorted(effective.volumes - asked.volumes):
        yield f"nobody asked for a volume at {target}, by the engine's inspect"
    for word in effective.unrequested:
        yield f"nobody asked for {word}, by the engine's inspect"


def _tmpfs(asked: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for place in sorted(asked.keys() | found.keys()):
        wanted, has = asked.get(place, "none"), found.get(place, "none")
        if wanted != has:
            yield f"tmpfs at {place}: {wanted} asked, {has} by the engine's inspect"


def _closed(effective: EffectiveSettings) -> Iterator[str]:
    for paths, closed in ((MASKED, effective.masked_paths), (READ_ONLY, effective.read_only_paths)):
        open_ones = [] if closed is None else sorted(set(paths) - set(closed))
        if open_ones:
            yield f"asked to be closed, open by the engine's inspect: {', '.join(open_ones)}"


def _seccomp(asked: ContainerSpec, effective: EffectiveSettings) -> Iterator[str]:
    if effective.seccomp == "unconfined":
        yield "a seccomp profile asked, unconfined by the engine's inspect"
    elif effective.seccomp == "default":
        yield "a seccomp profile asked, the engine's default by its inspect"
    elif effective.seccomp_digest not in (None, text_digest(asked.seccomp)):
        yield "a seccomp profile asked, another one by the engine's inspect"


def _of_engines_process(
    asked: ContainerSpec, effective: EffectiveSettings, inspection: Inspection
) -> Iterator[str]:
    """Yield the differences in mounts, program, environment and labels that the engine reports."""
    if effective.mounts is not None:
        hosts = f"{asked.labels.get(labels.WORK_DIR, '')}/orch-hosts-"
        found = {
            mount
            for mount in effective.mounts
            if not (mount.target == "/etc/hosts" and mount.read_only and mount.source.startswith(hosts))
        }
        for mount in sorted(found - set(asked.mounts), key=_target):
            mode = "read-only" if mount.read_only else "writable"
            yield f"nobody asked for a mount of {mount.source} at {mount.target}, {mode}, by the engine's inspect"
        for mount in sorted(set(asked.mounts) - found, key=_target):
            yield f"a mount of {mount.source} at {mount.target} asked, not so by the engine's inspect"
    for name, wanted, seen in (
        ("program", asked.entrypoint, effective.entrypoint),
        ("arguments", asked.argv, effective.argv),
        ("working folder", asked.working_dir, effective.working_dir),
        ("host name", asked.hostname, effective.hostname),
        ("terminal", asked.tty, effective.tty),
        ("standard input", asked.stdin_open, effective.stdin_open),
    ):
        if seen is not None and seen != wanted:
            yield f"{name}: not as asked, by the engine's inspect"
    missing = sorted({f"{name}={value}" for name, value in asked.env.items()} - set(effective.env or ()))
    if effective.env is not None and missing:
        names = ", ".join(word.partition("=")[0] for word in missing)
        yield f"variables: not as asked, by the engine's inspect: {names}"
    if not asked.labels.items() <= inspection.labels.items():
        yield "labels: not as asked, by the engine's inspect"


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(sorted(words)) or "none"


def _target(mount: Mount) -> str:
    return mount.target


def _say(number: float) -> str:
    return "no limit" if math.isinf(number) else f"{number:g}" if number < 1024 else f"{number:.0f}"


def with_memory_limit(found: Attestation | None, *, asked: int, seen: int | None) -> Attestation | None:
    """Return the attestation of a container whose memory limit was set to `asked` bytes while it ran.

    `seen` is the limit that the kernel reports, None if it was not read. Return `found` unchanged if `asked` is 0.
    """
    if found is None or not asked:
        return found
    differs = seen is not None and not 0 <= asked - seen < LARGEST_PAGE_BYTES
    more = (f"memory limit: {asked} bytes asked, {seen} in the kernel",) if differs else ()
    return replace(
        found,
        effective_memory_bytes=asked if seen is None else seen,
        limits_from_kernel=found.limits_from_kernel and seen is not None,
        mismatches=(*found.mismatches, *more),
    )
