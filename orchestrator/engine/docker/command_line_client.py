"""The command-line client of the engine, which handles a terminal and gives users a command to copy."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from orchestrator.model.runs import EngineInfo


def client_program(info: EngineInfo) -> str:
    """Return the path of the engine's command-line client. Raises EngineError if it is not installed."""
    for name in (info.name, "docker", "podman"):
        found = shutil.which(name)
        if found:
            return found
    raise EngineError(
        f"the command line of {info.name} is not installed; it is needed for a terminal in a container",
        remedy="install docker-cli (Debian: docker.io) or podman",
    )


def client_env(info: EngineInfo) -> dict[str, str]:
    """Return the environment variables with which the engine's command-line client uses the same engine."""
    variable = "CONTAINER_HOST" if info.name == "podman" else "DOCKER_HOST"
    return {**os.environ, variable: info.address}
