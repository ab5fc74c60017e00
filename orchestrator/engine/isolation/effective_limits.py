"""Parses the limits in effect for a container, as the agent reads them from the kernel. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

LIMIT_FILES = (
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "/sys/fs/cgroup/pids/pids.max",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory.swap.max",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/pids.max",
)
"""The limit files of cgroup v1 and v2, as paths inside the container; the agent skips missing ones."""
V1_UNLIMITED_BYTES = 1 << 62
"""The least number that means "no limit" on cgroup v1, which writes the largest number of whole pages below 2**63.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveLimits:
    """The limits and privileges that the kernel reports; None if it could not be read, infinity for no limit."""

    memory_bytes: float | None = None
    swap_bytes: float | None = None
    """The limit of memory and swap together."""
    cpus: float | None = None
    cpu_step: float = 0.0
    """The number of CPUs that correspond to one microsecond of the quota."""
    pids: float | None = None
    capabilities_effective: str | None = None
    capabilities_bounding: str | None = None
    no_new_privileges: bool | None = None
    seccomp_mode: int | None = None
    agent_readable: bool | None = None
    """True if other processes of the tests' user can read the agent's memory; None if not reported."""
    devices: tuple[str, ...] | None = None
    """The names of the entries of /dev."""


def parse_effective_limits(text: str) -> EffectiveLimits:
    """Parse the agent's `begin` section: lines `key value` up to the first counter, which starts with `@`."""
    facts: dict[str, str] = {}
    for line in text.split("\n"):
        if line.startswith("@"):
            break
        key, _, value = line.partition(" ")
        facts.setdefault(key, value.strip())
    memory = _bytes(facts.get("memory.max") or facts.get("memory.limit_in_bytes"))
    swap = _bytes(facts.get("memory.memsw.limit_in_bytes"))
    more = _bytes(facts.get("memory.swap.max"))
    if more is not None and memory is not None:
        swap = memory + more
    quota, period = _quota(facts)
    privileges, seccomp, readable = facts.get("NoNewPrivs"), facts.get("Seccomp"), facts.get("Readable")
    return EffectiveLimits(
        memory_bytes=memory,
        swap_bytes=swap,
        cpus=None if quota is None or period is None else quota / period,
        cpu_step=0.0 if period is None else 1 / period,
        pids=_limit(facts.get("pids.max")),
        capabilities_effective=_mask(facts.get("CapEff")),
        capabilities_bounding=_mask(facts.get("CapBnd")),
        no_new_privileges=privileges == "1" if privileges in ("0", "1") else None,
        seccomp_mode=int(seccomp) if seccomp in ("0", "1", "2") else None,
        agent_readable=readable == "yes" if readable in ("yes", "no") else None,
        devices=tuple(sorted(facts["dev"].replace("/dev/", "").split())) if "dev" in facts else None,
    )


def _bytes(word: str | None) -> float | None:
    number = _limit(word)
    return math.inf if number is not None and number >= V1_UNLIMITED_BYTES else number


def _limit(word: str | None) -> float | None:
    """Parse a number; `max` and -1 mean no limit (infinity); None if it is neither."""
    if word in ("max", "-1"):
        return math.inf
    return float(word) if word and word.isascii() and word.isdigit() and len(word) < 21 else None


def _quota(facts: dict[str, str]) -> tuple[float | None, float | None]:
    """Return (quota, period) in microseconds; cgroup v2 has both in one file."""
    quota, _, period = facts.get("cpu.max", "").partition(" ")
    limit = _limit(quota or facts.get("cpu.cfs_quota_us"))
    return limit, _limit(period or facts.get("cpu.cfs_period_us")) or None


def _mask(word: str | None) -> str | None:
    return word if word and len(word) <= 16 and set(word) <= set("0123456789abcdef") else None
