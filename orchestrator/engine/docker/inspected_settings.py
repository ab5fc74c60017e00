"""Parses a container's settings out of the answer of the engine's inspect call. Pure.

Each setting that orch requests has a field of its own in `EffectiveSettings`. Settings that orch never requests
(devices, another namespace, DNS servers) go into `unrequested`: one short text for each that is not at its neutral
value.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from orchestrator.engine.base import EffectiveSettings, Mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NEVER_REQUESTED = (
    "AutoRemove",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeight",
    "BlkioWeightDevice",
    "Cgroup",
    "CpuCount",
    "CpuPercent",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "Init",
    "KernelMemory",
    "KernelMemoryTCP",
    "Links",
    "MemoryReservation",
    "OomKillDisable",
    "OomScoreAdj",
    "PidMode",
    "PortBindings",
    "Privileged",
    "PublishAllPorts",
    "StorageOpt",
    "Sysctls",
    "UTSMode",
    "UsernsMode",
    "VolumeDriver",
    "VolumesFrom",
)
"""The keys of HostConfig that are empty, zero or false in every container of orch."""
PODMAN_FILLS = frozenset({"Binds", "BlkioWeight", "CpuPeriod", "CpuQuota", "MemoryReservation", "OomScoreAdj"})
"""The keys in which Podman repeats settings of other keys, or settings inherited from the user."""
PODMAN_NEUTRAL = {"PidMode": "private", "UTSMode": "private", "Cgroup": "default"}
_NO_NEW_PRIVILEGES = ("no-new-privileges", "no-new-privileges=true", "no-new-privileges:true")
LONGEST = 100
"""The longest text of an unrequested setting, in characters."""


def text_digest(text: str) -> str:
    """Return a short digest of a text, such as a seccomp profile; it is a part of the text's file name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def effective(reply: Mapping[str, Any], *, podman: bool) -> EffectiveSettings:
    """Parse the settings in the answer of an inspect call; None for those that it does not contain."""
    config, host = reply.get("Config") or {}, reply.get("HostConfig") or {}
    options = [str(o) for o in host.get("SecurityOpt") or []]
    said = "SecurityOpt" in host and not podman
    word = next((o.partition("=")[2] for o in options if o.startswith("seccomp=")), None)
    limits = {str(one["Name"]).lower().removeprefix("rlimit_"): one for one in host.get("Ulimits") or ()}

    def limit(key: str) -> int | None:
        """Return a limit; Docker writes 0 or null for no limit, Podman also if another key has the limit."""
        return host.get(key) or (None if podman or key not in host else 0)

    nano = limit("NanoCpus")
    seccomp = word if word == "unconfined" else "profile" if word else "default" if said else None
    return EffectiveSettings(
        memory_bytes=limit("Memory"),
        swap_bytes=limit("MemorySwap"),
        cpus=None if nano is None else nano / 1e9,
        pids=limit("PidsLimit"),
        nofile=_range(limits.get("nofile"), asked="Ulimits" in host),
        core=_range(limits.get("core"), asked="Ulimits" in host),
        shm_bytes=host.get("ShmSize"),
        network=host.get("NetworkMode"),
        ipc=host.get("IpcMode"),
        cgroup_namespace=host.get("CgroupnsMode") or None,
        log_driver=(host.get("LogConfig") or {}).get("Type"),
        capabilities_added=_capabilities(host.get("CapAdd")),
        capabilities_dropped=_capabilities(host["CapDrop"]) if "CapDrop" in host else None,
        seccomp=seccomp,
        seccomp_digest=_digest_of(word or ""),
        no_new_privileges=any(o in _NO_NEW_PRIVILEGES for o in options) if said else None,
        read_only_root=host.get("ReadonlyRootfs"),
        user=config.get("User"),
        image_id=reply.get("Image"),
        mounts=tuple(_mounts(reply)) if "Mounts" in reply else None,
        tmpfs=host.get("Tmpfs") or {} if "Tmpfs" in host or not podman else None,
        masked_paths=_strings(host.get("MaskedPaths")),
        read_only_paths=_strings(host.get("ReadonlyPaths")),
        entrypoint=_strings(
            [config["Entrypoint"]] if isinstance(config.get("Entrypoint"), str) else config.get("Entrypoint")
        ),
        argv=_strings(config.get("Cmd")),
        env=_strings(config.get("Env")),
        working_dir=config.get("WorkingDir"),
        hostname=config.get("Hostname"),
        tty=config.get("Tty"),
        stdin_open=config.get("OpenStdin"),
        health_check=_health_check(config),
        restart=(host.get("RestartPolicy") or {}).get("Name") or None,
        cgroup_parent=host.get("CgroupParent"),
        volumes=frozenset(one["Destination"] for one in reply.get("Mounts") or () if _is_anonymous(one)),
        unrequested=(*_unrequested(host, podman=podman), *_more(reply, options)),
    )


def _range(limit: Mapping[str, Any] | None, *, asked: bool) -> tuple[int, int] | None:
    """Return (soft, hard); (-1, -1) if the engine reports limits but not this one, None if it reports none."""
    if limit is None:
        return (-1, -1) if asked else None
    return int(limit["Soft"]), int(limit["Hard"])


def _capabilities(names: list[str] | None) -> tuple[str, ...]:
    return tuple(name.removeprefix("CAP_") for name in names or ())


def _strings(values: list[str] | str | None) -> tuple[str, ...] | None:
    """Return the values as a tuple; Podman reports a single value as a string."""
    if isinstance(values, str):
        return (values,)
    return None if values is None else tuple(str(value) for value in values)


def _digest_of(word: str) -> str | None:
    """Return the digest of the seccomp profile: Docker reports its text, Podman a path that ends in the digest."""
    if word.lstrip().startswith("{"):
        return text_digest(word)
    head, _, digest = word.rpartition("orch-seccomp-")
    return digest if head else None


def _mounts(reply: Mapping[str, Any]) -> Iterator[Mount]:
    for one in reply.get("Mounts") or ():
        if one.get("Type") == "bind":
            yield Mount(
                source=str(one.get("Source")),
                target=str(one.get("Destination")),
                read_only=not one.get("RW"),
                propagation=str(one.get("Propagation") or "rprivate"),
            )


def _health_check(config: Mapping[str, Any]) -> bool | None:
    """Return whether a health check is run; None if neither the container nor its image has one."""
    words = (config.get("Healthcheck") or {}).get("Test")
    return None if not words else words[0] != "NONE"


def _unrequested(host: Mapping[str, Any], *, podman: bool) -> Iterator[str]:
    for key in NEVER_REQUESTED:
        value = host.get(key)
        if not value or (podman and (key in PODMAN_FILLS or PODMAN_NEUTRAL.get(key) == value)):
            continue
        yield f"{key} {value}"[:LONGEST]


def _is_anonymous(mount: Mapping[str, Any]) -> bool:
    """Return whether the mount is a volume whose name was generated by the engine."""
    name = str(mount.get("Name", ""))
    return mount.get("Type") == "volume" and len(name) == 64 and set(name) <= set("0123456789abcdef")


def _more(reply: Mapping[str, Any], options: list[str]) -> Iterator[str]:
    """Yield mounts of kinds that are neither requested nor declared by an image, and unknown security options."""
    for one in reply.get("Mounts") or ():
        if one.get("Type") not in ("bind", "tmpfs") and not _is_anonymous(one):
            yield f"{one.get('Type')} {one.get('Name')} at {one.get('Destination')}"[:LONGEST]
    for option in options:
        if not option.startswith(("seccomp=", "no-new-privileges")):
            yield f"SecurityOpt {option}"[:LONGEST]
