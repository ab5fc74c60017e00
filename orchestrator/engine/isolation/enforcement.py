"""Determines whether an engine enforces the limits of memory, CPUs and processes.

An engine that ignores them would run every test without limits. It is refused, or each result carries a notice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import EngineError
from orchestrator.measure.cgroups import read_text

if TYPE_CHECKING:
    from orchestrator.model.runs import EngineInfo

_CONTROLLERS = {"memory": "memory", "cpus": "cpu", "pids": "pids"}
"""The cgroup controller that enforces each limit."""


def unenforced(info: EngineInfo, root: Path = Path("/sys/fs/cgroup")) -> tuple[str, ...]:
    """Return the limits among memory, cpus and pids that the engine silently ignores.

    On cgroup v1 a rootless engine enforces none, because v1 has no delegation. On v2 it can use the controllers
    that systemd has delegated to the user; those are read from the kernel, because Podman reports `CpuCfsQuota:
    false` for CPU limits that it does set (5.4.2).
    """
    if info.rootless and info.cgroup_version == 1:
        return tuple(_CONTROLLERS)
    if info.rootless and info.local and info.cgroup_driver == "systemd":
        user = os.geteuid()
        delegated = read_text(f"{root}/user.slice/user-{user}.slice/user@{user}.service/cgroup.controllers")
        if delegated is not None:
            return tuple(name for name, controller in _CONTROLLERS.items() if controller not in delegated.split())
    there = {"memory": info.memory_limit, "cpus": info.cpu_limit, "pids": info.pids_limit}
    return tuple(name for name, is_there in there.items() if not is_there)


def remedy(info: EngineInfo) -> str:
    """Return an instruction for the user by which the limits become enforced."""
    if info.rootless and info.cgroup_version == 1:
        return (
            "a rootless engine has no limits on cgroup v1: boot with cgroup v2, or use an engine that runs as root"
        )
    if info.rootless:
        return (
            "delegate these controllers to your user: `[Service] Delegate=cpu cpuset io memory pids` in"
            " /etc/systemd/system/user@.service.d/delegate.conf, and log in again"
        )
    return "enable these controllers in the kernel of the engine's host"


def require_enforced(info: EngineInfo, *, allow: bool) -> str | None:
    """Return the notice that each result carries if a limit is not enforced, None if all are.

    Raises EngineError if a limit is not enforced and `allow` is False.
    """
    ignored = unenforced(info)
    if not ignored:
        return None
    names = ", ".join(ignored)
    if allow:
        return f"not enforced by this engine: {names}"
    raise EngineError(
        f"{info.name} at {info.address} does not enforce {names}: tests would run without these limits",
        remedy=f"{remedy(info)}; or accept it with --allow-unenforced, and every result is marked",
    )
