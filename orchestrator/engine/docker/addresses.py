"""Finds the addresses at which a container engine may answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping


def candidate_addresses(url: str | None, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses to try, best first.

    That is `url` or DOCKER_HOST alone if one is set; else the Docker CLI's current context, then the usual sockets
    that exist.
    """
    named = url or env.get("DOCKER_HOST")
    if named:
        return (named,)
    found = []
    context = _context_address(env)
    if context:
        found.append(context)
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    for path in (
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    ):
        address = f"unix://{path}"
        if address not in found and _exists(path):
            found.append(address)
    return tuple(found)


def _exists(path: str) -> bool:
    """Return whether the path exists; False also if this user may not look into its folder (rootful Podman)."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def _context_address(env: Mapping[str, str]) -> str | None:
    """Return the address of the Docker CLI's current context, None if that is the default context."""
    if not (Path(env.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json").is_file():
        return None
    import docker.errors
    from docker.context import ContextAPI

    try:
        context = ContextAPI.get_current_context()
    except (docker.errors.DockerException, OSError, ValueError, KeyError):
        return None  # a damaged context file is reported by the CLI; the usual sockets are still tried
    if context is None or context.Name == "default":
        return None
    return cast("str | None", context.Host)
