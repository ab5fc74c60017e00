"""Attestation: what a container really is held to, read back from the kernel and the engine, against what was
asked for. Pure.

The agent reads the kernel's own files once, before its first test; the engine's word is the second. A figure
that neither says is None and no mismatch: silence is not evidence. How much the two may differ is measured, see
docs/design/attestation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model import Attestation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engine.base import ContainerSpec, Effective, Inspection
    from orchestrator.model import EngineInfo

LIMIT_FILES = (
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "/sys/fs/cgroup/pids/pids.max",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/pids.max",
)
"""As seen inside, v1 and v2; those that a container does not have are passed over."""
LARGEST_PAGE_BYTES = 1 << 16
"""The kernel rounds a memory limit down to whole pages, of 4 to 64 KiB by architecture."""
V1_UNLIMITED_BYTES = 1 << 62
"""cgroup v1 writes "no limit" as the largest number of whole pages, just under 2**63."""
SYSTEMD_CPUS = 0.01
"""systemd keeps a CPU quota in whole percent of a CPU."""
SECCOMP_FILTER = 2
CAPABILITY_BITS = {"SYS_PTRACE": 19}
"""Of linux/capability.h; those that a profile may be given back. Others are not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the kernel says. None: it could not be read; infinity: no limit."""

    memory_bytes: float | None = None
    cpus: float | None = None
    cpu_step: float = 0.0
    """CPUs that one microsecond of the quota is worth."""
    pids: float | None = None
    capabilities_effective: str | None = None
    capabilities_bounding: str | None = None
    no_new_privileges: bool | None = None
    seccomp_mode: int | None = None
    agent_readable: bool | None = None
    """Other processes of the tests' user can read the agent's memory."""


def parse_held(text: str) -> Held:
    """From the agent's section before a test: lines `key value` up to the first counter's `@`."""
    facts: dict[str, str] = {}
    for line in text.split("\n"):
        if line.startswith("@"):
            break
        key, _, value = line.partition(" ")
        facts.setdefault(key, value.strip())
    memory = _limit(facts.get("memory.max") or facts.get("memory.limit_in_bytes"))
    quota, period = _quota(facts)
    privileges, seccomp, readable = facts.get("NoNewPrivs"), facts.get("Seccomp"), facts.get("Readable")
    return Held(
        memory_bytes=math.inf if memory is not None and memory >= V1_UNLIMITED_BYTES else memory,
        cpus=None if quota is None or period is None else quota / period,
        cpu_step=0.0 if period is None else 1 / period,
        pids=_limit(facts.get("pids.max")),
        capabilities_effective=_mask(facts.get("CapEff")),
        capabilities_bounding=_mask(facts.get("CapBnd")),
        no_new_privileges=privileges == "1" if privileges in ("0", "1") else None,
        seccomp_mode=int(seccomp) if seccomp in ("0", "1", "2") else None,
        agent_readable=readable == "yes" if readable in ("yes", "no") else None,
    )


def _limit(word: str | None) -> float | None:
    """A number, `max` or -1 for none; None: neither."""
    if word in ("max", "-1"):
        return math.inf
    return float(word) if word and word.isascii() and word.isdigit() and len(word) < 21 else None


def _quota(facts: dict[str, str]) -> tuple[float | None, float | None]:
    """(quota, period) in microseconds: v2 has both in one file."""
    quota, _, period = facts.get("cpu.max", "").partition(" ")
    limit = _limit(quota or facts.get("cpu.cfs_quota_us"))
    return limit, _limit(period or facts.get("cpu.cfs_period_us")) or None


def _mask(word: str | None) -> str | None:
    return word if word and len(word) <= 16 and set(word) <= set("0123456789abcdef") else None


def attest(inspection: Inspection, *, asked: ContainerSpec, begin: str, info: EngineInfo) -> Attestation:
    """What the container was. `begin`: the agent's section before the test, empty where there is none."""
    effective, held = inspection.effective, parse_held(begin)
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
            *_of_engine(asked, effective),
        ),
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _whole(number: float) -> int | None:
    return int(number) if math.isfinite(number) else None


def _of_kernel(asked: ContainerSpec, held: Held, info: EngineInfo) -> Iterator[str]:
    """What the kernel enforces is not what was asked for."""
    if held.memory_bytes is not None and not 0 <= asked.memory_bytes - held.memory_bytes < LARGEST_PAGE_BYTES:
        yield f"memory limit: {asked.memory_bytes} bytes asked, {_say(held.memory_bytes)} in the kernel"
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


def _of_agent(held: Held) -> Iterator[str]:
    """The agent is not out of the tests' reach, or does not say so."""
    if held.agent_readable is None:
        yield "the agent did not say whether tests can read its memory"
    elif held.agent_readable:
        yield (
            "tests can read the memory of process 1: its program file is readable for their user, or the sysctl "
            "fs.suid_dumpable of this machine is 1"
        )


def _capabilities(asked: ContainerSpec, held: Held) -> Iterator[str]:
    """The bounding set is what was given back and no more; the effective set lies within it."""
    bits = [CAPABILITY_BITS.get(name.removeprefix("CAP_")) for name in asked.capabilities]
    if None in bits or held.capabilities_bounding is None:
        return
    wanted = sum(1 << bit for bit in bits if bit is not None)
    bounding = int(held.capabilities_bounding, 16)
    effective = int(held.capabilities_effective or "0", 16)
    if bounding != wanted or effective & ~wanted:
        given = ", ".join(asked.capabilities) or "none"
        yield f"capabilities: {given} asked, effective {effective:x} and bounding {bounding:x} in the kernel"


def _of_engine(asked: ContainerSpec, effective: Effective) -> Iterator[str]:
    """What the engine reports back is not what it was told."""
    pairs = (
        ("image", asked.image_id, effective.image_id),
        ("memory limit", asked.memory_bytes, effective.memory_bytes),
        ("pids limit", asked.pids, effective.pids),
        ("user", asked.user, effective.user),
        ("read-only root", asked.read_only_root, effective.read_only_root),
        # engines have names of their own for a network, but one for none
        ("network", asked.network, effective.network if "none" in (asked.network, effective.network) else None),
    )
    for name, wanted, found in pairs:
        if found is not None and found != wanted:
            yield f"{name}: {wanted} asked, {found} by the engine's inspect"
    if effective.cpus is not None and not abs(effective.cpus - asked.cpus) < 1e-6:
        yield f"CPU limit: {asked.cpus:g} CPUs asked, {effective.cpus:g} by the engine's inspect"
    if effective.seccomp == "unconfined":
        yield "a seccomp profile asked, unconfined by the engine's inspect"


def _say(number: float) -> str:
    return "no limit" if math.isinf(number) else f"{number:g}" if number < 1024 else f"{number:.0f}"
