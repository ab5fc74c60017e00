"""Compares the settings that the engine reports with section 5 of the CIS Docker Benchmark 1.6 (group 16). Pure.

Items about the host or its administrator are checked as far as the engine's inspect call reports them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.isolation.kernel_view import MASKED, READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engine.base import ContainerSpec, EffectiveSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check. `proven` is None if the check does not apply; `reason` says why."""

    group: int
    check: str
    proven: bool | None
    observed: str
    reason: str = ""


SYSTEM_FOLDERS = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr")
DEVIATIONS = (
    ("5.1", "AppArmor", "the engine applies its own profile where the machine has AppArmor; orch brings none"),
    ("5.2", "SELinux", "as above; a label for the project's folder is the user's decision"),
    ("5.11", "CPU shares", "not set: a quota is, which bounds more"),
    ("5.14", "restart on failure at most 5 times", "never restarted at all"),
    ("5.26", "a health check", "off: it would run inside the test's limits; the agent's end record tells"),
    ("5.30", "no default bridge docker0", "the profile `intensive` uses it; none of the others has a network"),
)
"""The items (number, item, reason) in which orch deviates from the benchmark."""


def cis(asked: ContainerSpec, effective: EffectiveSettings) -> Iterator[Check]:
    """Yield a check for each item that applies."""
    unrequested = " ".join(effective.unrequested)
    mounts = effective.mounts or ()
    writable = [mount.target for mount in mounts if not mount.read_only]
    sources = [mount.source for mount in mounts]
    none = asked.network == "none"
    closed = _within(MASKED, effective.masked_paths) and _within(READ_ONLY, effective.read_only_paths)
    for number, item, proven, observed in (
        ("5.3", "capabilities restricted", effective.capabilities_dropped in (None, ("ALL",)), _all(effective)),
        ("5.4", "not privileged", "Privileged" not in unrequested, unrequested or "no"),
        ("5.5", "no system folder mounted", not set(sources) & set(SYSTEM_FOLDERS), ", ".join(sources)),
        ("5.5", "no writable bind", not writable, ", ".join(writable) or "none"),
        ("5.7", "no port published", "Port" not in unrequested, unrequested or "none"),
        ("5.9", "not the host's network", effective.network != "host", str(effective.network)),
        ("5.10", "memory limited", bool(effective.memory_bytes), str(effective.memory_bytes)),
        ("5.12", "root read-only", effective.read_only_root is True, str(effective.read_only_root)),
        ("5.15", "not the host's processes", "PidMode" not in unrequested, unrequested or "its own"),
        ("5.16", "not the host's IPC", effective.ipc != "host", str(effective.ipc)),
        ("5.17", "no device of the host", "Device" not in unrequested, unrequested or "none"),
        (
            "5.18",
            "limits of open files and core dumps",
            _limited(effective),
            f"{effective.nofile}, {effective.core}",
        ),
        ("5.19", "no shared propagation", all("shared" not in m.propagation for m in mounts), "private"),
        ("5.20", "not the host's UTS namespace", "UTSMode" not in unrequested, unrequested or "its own"),
        (
            "5.21",
            "seccomp not off",
            None if effective.seccomp is None else effective.seccomp == "profile",
            str(effective.seccomp),
        ),
        ("5.24", "cgroup below a parent that is meant", not asked.cgroup_parent or _parent(asked, effective), "-"),
        ("5.25", "no new privileges", effective.no_new_privileges is not False, str(effective.no_new_privileges)),
        (
            "5.27",
            "image by its content",
            (effective.image_id or "").startswith("sha256:"),
            str(effective.image_id),
        ),
        ("5.28", "processes limited", bool(effective.pids), str(effective.pids)),
        ("5.29", "not the bridge docker0", none or None, str(effective.network)),
        ("5.31", "not the host's user namespace by request", "UsernsMode" not in unrequested, unrequested or "no"),
        ("5.32", "engine's socket not mounted", not any(s.endswith(".sock") for s in sources), ", ".join(sources)),
        ("-", "what engines close is closed", closed, "masked and read-only paths"),
    ):
        reason = "" if proven is not None else _WHY_NOT.get(number, "the engine does not say")
        yield Check(group=16, check=f"CIS {number}: {item}", proven=proven, observed=observed[:100], reason=reason)
    for number, item, reason in DEVIATIONS:
        yield Check(group=16, check=f"CIS {number}: {item}", proven=None, observed="deviation", reason=reason)


_WHY_NOT = {"5.29": "the profile asks for a network"}


def _within(paths: tuple[str, ...], closed: tuple[str, ...] | None) -> bool:
    return closed is None or set(paths) <= set(closed)


def _all(effective: EffectiveSettings) -> str:
    return f"dropped {effective.capabilities_dropped}, added {effective.capabilities_added}"


def _limited(effective: EffectiveSettings) -> bool:
    return all(limit is None or limit[0] >= 0 for limit in (effective.nofile, effective.core))


def _parent(asked: ContainerSpec, effective: EffectiveSettings) -> bool:
    return effective.cgroup_parent in (None, asked.cgroup_parent)
