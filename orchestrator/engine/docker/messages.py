"""Converts between the engine's JSON and orch's values. Pure."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.engine.base import Inspection, Mount
from orchestrator.engine.docker.inspected_settings import effective
from orchestrator.model.evidence import EngineState
from orchestrator.model.runs import EngineInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.engine.base import ContainerSpec


def name_and_tag(reference: str) -> tuple[str, str]:
    """Split `a.b:5000/name:tag` into (`a.b:5000/name`, `tag`); without a tag it is latest."""
    head, colon, tail = reference.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (reference, "latest")


def describe(address: str, info: Mapping[str, Any], version: Mapping[str, Any]) -> EngineInfo:
    """Parse the engine's answers to `/info` and `/version`."""
    components = {str(c.get("Name", "")).lower() for c in version.get("Components") or []}
    is_podman = any("podman" in name for name in components)
    options = [str(o) for o in info.get("SecurityOptions") or []]
    cgroup = str(info.get("CgroupVersion") or "")
    kernel = str(info.get("KernelVersion") or "")
    local = address.startswith("unix://") and kernel == os.uname().release
    return EngineInfo(
        name="podman" if is_podman else "docker",
        version=str(version.get("Version") or info.get("ServerVersion") or "?"),
        api_version=str(version.get("ApiVersion") or "?"),
        address=address,
        local=local and "Docker Desktop" not in str(info.get("OperatingSystem")),
        cgroup_version=int(cgroup) if cgroup.isdigit() else 1,
        cgroup_driver=info.get("CgroupDriver"),
        rootless=any("rootless" in o for o in options),
        cpus=int(info.get("NCPU") or 0),
        memory_bytes=int(info.get("MemTotal") or 0),
        kernel=kernel,
        operating_system=str(info.get("OperatingSystem") or ""),
        architecture=str(info.get("Architecture") or ""),
        storage_driver=str(info.get("Driver") or ""),
        memory_limit=bool(info.get("MemoryLimit", True)),
        cpu_limit=bool(info.get("CpuCfsQuota", True)),
        pids_limit=bool(info.get("PidsLimit", True)),
        swap_limit=bool(info.get("SwapLimit", True)),
        warnings=tuple(str(w) for w in info.get("Warnings") or []),
    )


def container_config(spec: ContainerSpec, *, hosts_file: Path | None = None) -> dict[str, Any]:
    """Return the body of the engine's create request.

    With `hosts_file`, which is mounted as /etc/hosts, the engine does not set up the network of a container
    without a network. That set-up takes half of a container's time and provides only that file and the address of
    the host's name server (docs/design/engine/fresh-slots.md).
    """
    mounts = [] if hosts_file is None else [Mount(source=str(hosts_file), target="/etc/hosts")]
    return {
        "Image": spec.image_id,
        "Entrypoint": list(spec.entrypoint),
        "Cmd": list(spec.argv),
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Labels": dict(spec.labels),
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "Hostname": spec.hostname,
        "OpenStdin": spec.stdin_open,
        "StdinOnce": False,
        "AttachStdin": spec.stdin_open,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": spec.tty,
        "NetworkDisabled": hosts_file is not None,  # a network namespace with nothing but loopback
        "StopSignal": "SIGKILL",  # an engine that shuts down waits 10 s for each container that ignores the signal
        "Healthcheck": {"Test": ["NONE"]},  # the image's health check would run processes inside the test's limits
        "HostConfig": {
            "NetworkMode": spec.network,
            "ReadonlyRootfs": spec.read_only_root,
            "CapDrop": ["ALL"],
            "CapAdd": list(spec.capabilities),
            "SecurityOpt": ["no-new-privileges", f"seccomp={spec.seccomp}"],
            "Memory": spec.memory_bytes,
            "MemorySwap": spec.memory_bytes,
            "NanoCpus": round(spec.cpus * 1e9),
            "PidsLimit": spec.pids,
            "Ulimits": [
                {"Name": "nofile", "Soft": spec.nofile, "Hard": spec.nofile},
                {"Name": "core", "Soft": 0, "Hard": 0},
            ],
            "Tmpfs": dict(spec.tmpfs),
            "ShmSize": spec.shm_bytes,
            "IpcMode": "private",
            "CgroupnsMode": "private",  # Docker's default on cgroup v1, the host's, shows the run's name to tests
            "LogConfig": {"Type": "none", "Config": {}},  # a log could fill the disk
            "AutoRemove": False,  # the exit code is read from the engine after the end
            "RestartPolicy": {"Name": "no"},
            "CgroupParent": spec.cgroup_parent or "",
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": m.source,
                    "Target": m.target,
                    "ReadOnly": m.read_only,
                    "BindOptions": {"Propagation": m.propagation},
                }
                for m in (*spec.mounts, *mounts)
            ],
        },
    }


_PODMAN_REFUSES = ("nr_inodes=", "uid=", "gid=")


def podman_tmpfs(options: str) -> str:
    """Return the options of a tmpfs without those that Podman refuses."""
    return ",".join(o for o in options.split(",") if not o.startswith(_PODMAN_REFUSES))


def for_podman(config: Mapping[str, Any], seccomp_file: Path) -> dict[str, Any]:
    """Return the create request for Podman (5.4.2).

    Podman takes the path of a seccomp profile where Docker takes its text, and supports fewer tmpfs options. There
    the memory limit bounds the number of files, and mode 1777 gives the user access.
    """
    host = dict(config["HostConfig"])
    host["SecurityOpt"] = [
        f"seccomp={seccomp_file}" if o.startswith("seccomp=") else o for o in host["SecurityOpt"]
    ]
    host["Tmpfs"] = {place: podman_tmpfs(options) for place, options in host["Tmpfs"].items()}
    return {**config, "HostConfig": host}


def _moment(text: str | None) -> datetime | None:
    """Parse the engine's RFC 3339 time with nanoseconds; None for year 1, which means never."""
    if not text or text.startswith("0001-"):
        return None
    head, dot, tail = text.partition(".")
    if dot:
        digits = tail.rstrip("Z")
        zone = ""
        for sign in "+-":
            if sign in digits:
                digits, zone = digits.split(sign)[0], sign + digits.split(sign)[1]
        text = f"{head}.{digits[:6]}{zone or '+00:00'}"
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def inspection(reply: Mapping[str, Any], *, local: bool, podman: bool = False) -> Inspection:
    """Parse the answer of the engine's inspect call."""
    state, config = reply["State"], reply.get("Config") or {}
    pid = int(state.get("Pid") or 0)
    return Inspection(
        id=str(reply["Id"]),
        name=str(reply.get("Name") or "").lstrip("/"),
        labels=config.get("Labels") or {},
        pid=pid if pid > 0 and local else None,
        state=EngineState(
            status=str(state.get("Status") or "?"),
            exit_code=state.get("ExitCode"),
            oom_killed=state.get("OOMKilled"),
            error=str(state.get("Error") or ""),
            started_at=_moment(state.get("StartedAt")),
            finished_at=_moment(state.get("FinishedAt")),
        ),
        effective=effective(reply, podman=podman),
    )
