"""Load the configuration, and derive the settings that all containers of a run share.

The engine is imported inside functions, because commands without containers use this module too.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from orchestrator.config.settings import Config
    from orchestrator.engine.isolation.hardening import ContainerContext
    from orchestrator.model.runs import EngineInfo


def load(config_path: Path | None, overrides: dict[str, str]) -> Config:
    """Return the configuration for the working directory."""
    from orchestrator.config.loader import load_config

    return load_config(path=config_path, start=Path.cwd(), env=os.environ, overrides=overrides)


def load_with_database(config_path: Path | None, database: str | None) -> Config:
    """Return the configuration for a command whose only setting on the command line is `--db`."""
    return load(config_path, {} if database is None else {"database": database})


def seccomp_text(config: Config) -> str:
    """Return the JSON of the seccomp profile. Raises ConfigError if it is broken or allows unnamed calls."""
    import json

    path = config.seccomp
    if path is None:
        from orchestrator.config.shipped import docker_folder

        path = docker_folder() / "seccomp.json"
    try:
        text = path.read_text(encoding="utf-8")
        profile = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot use the seccomp profile: {error}",
            remedy="correct the file; orch never runs tests without a seccomp profile",
        ) from error
    if not isinstance(profile, dict) or profile.get("defaultAction") in (None, "SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        raise ConfigError(
            f"{path}: the seccomp profile allows system calls that it does not name",
            remedy="its defaultAction must refuse, e.g. SCMP_ACT_ERRNO",
        )
    return json.dumps(profile, separators=(",", ":"))


def container_context(config: Config, info: EngineInfo) -> ContainerContext:
    """Return the settings that all containers of a run share. Raises UsageError for a project that cannot be
    mounted.
    """
    from orchestrator.engine.isolation.hardening import USER, ContainerContext
    from orchestrator.measure import cgroups, reused_slot

    root = config.project_root.resolve()
    if root == Path("/") or any(
        root == Path(p) for p in ("/etc", "/var", "/usr", "/proc", "/sys", "/dev", "/run")
    ):
        raise UsageError(f"will not mount {root} into containers", remedy="run orch inside a project's folder")
    # a folder that does not exist need not be hidden, and has no mount point in a read-only project
    state_dir = config.state_dir.resolve() if config.state_dir.is_dir() else None
    if info.local and not container_user_can_enter(root):
        raise UsageError(
            f"tests cannot read {root}: it is closed to other users, and containers run as user {USER}",
            remedy=f"chmod o+rx {shlex.quote(str(root))}",
        )
    counters = cgroups.AGENT_FILES_V2 if info.cgroup_version == 2 else cgroups.AGENT_FILES_V1
    if not info.local:
        stat = cgroups.AGENT_STAT_V2 if info.cgroup_version == 2 else cgroups.AGENT_STAT_V1
        counters = (*counters, stat)
    return ContainerContext(
        project_root=root,
        state_dir=state_dir,
        seccomp=seccomp_text(config),
        counters=tuple(counters),
        next_counters=reused_slot.AGENT_FILES_V2 if info.cgroup_version == 2 else reused_slot.AGENT_FILES_V1,
    )


def container_user_can_enter(folder: Path) -> bool:
    """Return whether the user of the containers may read and enter a folder.

    The folders above it do not matter to a mount.
    """
    from orchestrator.engine.isolation.hardening import USER

    uid, gid = (int(number) for number in USER.split(":"))
    status = folder.stat()
    if status.st_uid == uid:
        return status.st_mode & 0o500 == 0o500
    if status.st_gid == gid:
        return status.st_mode & 0o050 == 0o050
    return status.st_mode & 0o005 == 0o005


def git_state(root: Path) -> tuple[str | None, str | None, bool | None]:
    """Return (revision, branch, whether tracked files were changed), each None if git cannot say."""
    if shutil.which("git") is None or not (root / ".git").exists():
        return None, None, None

    def ask(*words: str) -> str | None:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=False, timeout=10
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        revision, branch = ask("rev-parse", "HEAD"), ask("symbolic-ref", "--short", "-q", "HEAD")
        status = ask("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None, None, None
    return revision or None, branch or None, None if status is None else bool(status)
