"""Whether a container that was made without network set-up has a network of its own, as seen from the host.

That it has one is how Docker's default namespaces are, and not promised by its API: so the first is looked at.
"""

from __future__ import annotations

from pathlib import Path


def has_own_network(container_id: str, pid: int, proc: Path = Path("/proc")) -> bool | None:
    """False: its processes see this machine's network interfaces. None: its process cannot be seen from here (it
    has ended, or its engine counts processes in another namespace), or this machine has no interface to tell by.
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
    # a new namespace may have the kernel's fallback tunnels (sit0, tunl0) too, but never all that the host has
    return not here <= inside


def _interfaces(table: Path) -> set[str]:
    """Names in the kernel's table: two lines of headings, then `name: counters`."""
    return {line.partition(":")[0].strip() for line in table.read_text().splitlines()[2:]}
