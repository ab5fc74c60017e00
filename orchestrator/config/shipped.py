"""Find the files that orch ships beside its code: the Dockerfiles and the seccomp profile."""

from __future__ import annotations

from pathlib import Path


def docker_folder() -> Path:
    """Return the folder of the shipped files: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_docker"
    return installed if installed.is_dir() else package.parent / "docker"
