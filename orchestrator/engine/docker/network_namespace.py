"""Checks in /proc that a container has a network namespace of its own."""

from __future__ import annotations

from pathlib import Path


def has_own_network(container_id: str, pid: int, proc: Path = Path("/proc")) -> bool | None:
    """Return False if the container's process `pid` sees the network interfaces of this machine.

    Return None if that cannot be determined: the process has ended, its engine counts processes in another pid
    namespace, or this machine has no interface besides loopback.
    """
    try:
        if container_id not in (proc / str(pid) / "cgroup").read_text():
            return None
        inside = _interfaces(proc / str(pid) / "net" / "dev")
        here = _interfaces(proc / "self" / "net" / "dev")
    except OSError:
        return None
    if here <= {"lo"}:
        return None
    # a new namespace may also have the kernel's fallback tunnels (sit0, tunl0), but never all of the host's
    return not here <= inside


def _interfaces(table: Path) -> set[str]:
    """Return the interface names of a /proc/PID/net/dev table: two header lines, then `name: counters`."""
    return {line.partition(":")[0].strip() for line in table.read_text().splitlines()[2:]}
