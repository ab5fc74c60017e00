"""Mutations of a container's request: each removes one item of the hardening.

`KEYS_LEFT_ALONE` and `FIELDS_LEFT_ALONE` say why a part of the request has no mutation; a unit test checks that
each part has one or the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.handmade import OPEN_SECCOMP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A change of the body of the engine's create call."""

    item: str
    key: str
    """The changed key, of HostConfig or of the body itself."""
    fields: tuple[str, ...] = ()
    """The fields of ContainerSpec that the change concerns."""
    change: Callable[[Body, Body], None]
    """The function that changes the body and its HostConfig."""
    agent: bool = True
    """Whether the container runs the agent. False: it must not, because the agent signals all processes that it
    sees.
    """


def _host(key: str, value: Any) -> Callable[[Body, Body], None]:
    def change(_: Body, host: Body) -> None:
        host[key] = value

    return change


def _top(key: str, value: Any) -> Callable[[Body, Body], None]:
    def change(body: Body, _: Body) -> None:
        body[key] = value

    return change


def _without_option(start: str) -> Callable[[Body, Body], None]:
    def change(_: Body, host: Body) -> None:
        host["SecurityOpt"] = [o for o in host["SecurityOpt"] if not o.startswith(start)]

    return change


def _seccomp(text: str) -> Callable[[Body, Body], None]:
    def change(_: Body, host: Body) -> None:
        host["SecurityOpt"] = ["no-new-privileges", f"seccomp={text}"]

    return change


def _without_ulimit(name: str) -> Callable[[Body, Body], None]:
    def change(_: Body, host: Body) -> None:
        host["Ulimits"] = [limit for limit in host["Ulimits"] if limit["Name"] != name]

    return change


def _tmpfs(place: str, option: str, instead: str = "") -> Callable[[Body, Body], None]:
    """Return a change that removes an option of a tmpfs, or with an empty `option` the tmpfs itself. `instead` is
    the opposite option, for engines that set the removed one by default.
    """

    def change(_: Body, host: Body) -> None:
        words = host["Tmpfs"].pop(place).split(",")
        if option:
            assert any(word.startswith(option) for word in words)
            kept = [word for word in words if not word.startswith(option)]
            host["Tmpfs"][place] = ",".join([*kept, *filter(None, [instead])])

    return change


def _bind(target: str, **changes: Any) -> Callable[[Body, Body], None]:
    def change(_: Body, host: Body) -> None:
        host["Mounts"] = [{**m, **changes} if m["Target"] == target else m for m in host["Mounts"]]

    return change


def _mount(kind: str, source: str, target: str) -> Callable[[Body, Body], None]:
    def change(_: Body, host: Body) -> None:
        host["Mounts"] = [*host["Mounts"], {"Type": kind, "Source": source, "Target": target, "ReadOnly": False}]

    return change


def _elsewhere(_: Body, host: Body) -> None:
    for mount in host["Mounts"]:
        mount["Source"] += "/elsewhere" if mount["Target"] == "/work" else ""


def _network(mode: str) -> Callable[[Body, Body], None]:
    def change(body: Body, host: Body) -> None:
        body["NetworkDisabled"] = False
        host["NetworkMode"] = mode
        host["Mounts"] = [m for m in host["Mounts"] if m["Target"] != "/etc/hosts"]
        if mode == "host":
            body["Hostname"] = ""

    return change


def _uts(body: Body, host: Body) -> None:
    body["Hostname"], host["UTSMode"] = "", "host"


def _harmless_in_host_pids(body: Body, host: Body) -> None:
    body["Entrypoint"], body["Cmd"], host["PidMode"] = ["sleep"], ["60"], "host"


def _env_without_a_name(body: Body, _: Body) -> None:
    body["Env"] = [word for word in body["Env"] if not word.startswith("TMPDIR=")]


def _env_with_one_more(body: Body, _: Body) -> None:
    body["Env"] = [*body["Env"], "LD_BIND_NOW=1"]


def _health_check(body: Body, _: Body) -> None:
    body["Healthcheck"] = {"Test": ["CMD", "true"], "Interval": 10**9}


def _no_labels(body: Body, _: Body) -> None:
    body["Labels"] = {**body["Labels"], "io.orch.profile": "other"}


def _doubled(key: str) -> Callable[[Body, Body], None]:
    def change(_: Body, host: Body) -> None:
        host[key] *= 2
        if key == "Memory":
            host["MemorySwap"] *= 2

    return change


DEVICE = {"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "r"}
HIDDEN = "/work/.orch"
MORE_ENV = "a variable more"
"""A mutation that attestation cannot distinguish from a variable of the image; the self-test finds it."""
EFFECTS: Mapping[str, int] = {
    "read-only root": 2, "project writable": 2, ".orch visible": 2, "a volume": 2, "/tmp without size": 3,
    "/tmp without nr_inodes": 3, "/tmp without nosuid": 3, "/tmp without nodev": 3, "no-new-privileges": 4,
    "masked paths": 5, "a device": 6, "network: bridge": 7, "network: host": 7, MORE_ENV: 8,
    "seccomp: the engine's default": 9, "seccomp: unconfined": 9, "seccomp: allows all": 9, "pids": 10,
    "swap without limit": 10, "no CPU limit": 10, "cgroup namespace": 11, "IPC namespace": 14, "nofile": 15,
    "core": 15, "capabilities dropped": 1, "host name": 17,
}  # fmt: skip
"""Item -> the group of `orch self-test` that detects its absence from inside."""
MUTATIONS = (
    Mutation(item="user", key="User", fields=("user",), change=_top("User", "0:0")),
    Mutation(
        item="read-only root",
        key="ReadonlyRootfs",
        fields=("read_only_root",),
        change=_host("ReadonlyRootfs", False),
    ),
    Mutation(item="capabilities dropped", key="CapDrop", change=_host("CapDrop", [])),
    Mutation(
        item="a capability more", key="CapAdd", fields=("capabilities",), change=_host("CapAdd", ["NET_RAW"])
    ),
    Mutation(item="no-new-privileges", key="SecurityOpt", change=_without_option("no-new-privileges")),
    Mutation(
        item="seccomp: the engine's default",
        key="SecurityOpt",
        fields=("seccomp",),
        change=_without_option("seccomp="),
    ),
    Mutation(item="seccomp: unconfined", key="SecurityOpt", fields=("seccomp",), change=_seccomp("unconfined")),
    Mutation(item="seccomp: allows all", key="SecurityOpt", fields=("seccomp",), change=_seccomp(OPEN_SECCOMP)),
    Mutation(item="memory", key="Memory", fields=("memory_bytes",), change=_doubled("Memory")),
    Mutation(item="swap without limit", key="MemorySwap", change=_host("MemorySwap", -1)),
    Mutation(item="CPUs", key="NanoCpus", fields=("cpus",), change=_doubled("NanoCpus")),
    Mutation(item="no CPU limit", key="NanoCpus", fields=("cpus",), change=_host("NanoCpus", 0)),
    Mutation(item="pids", key="PidsLimit", fields=("pids",), change=_host("PidsLimit", -1)),
    Mutation(item="nofile", key="Ulimits", fields=("nofile",), change=_without_ulimit("nofile")),
    Mutation(item="core", key="Ulimits", change=_without_ulimit("core")),
    *(
        Mutation(
            item=f"/tmp without {option}", key="Tmpfs", fields=("tmpfs",), change=_tmpfs("/tmp", option, other)
        )
        for option, other in {
            "size": "",
            "nr_inodes": "",
            "mode": "mode=700",
            "uid": "",
            "nosuid": "suid",
            "nodev": "dev",
        }.items()
    ),
    Mutation(
        item="outputs without noexec", key="Tmpfs", fields=("tmpfs",), change=_tmpfs("/output", "noexec", "exec")
    ),
    Mutation(item="outputs without size", key="Tmpfs", fields=("tmpfs",), change=_tmpfs("/output", "size")),
    Mutation(item=".orch visible", key="Tmpfs", fields=("tmpfs",), change=_tmpfs(HIDDEN, "")),
    Mutation(item=".orch writable", key="Tmpfs", fields=("tmpfs",), change=_tmpfs(HIDDEN, "ro")),
    Mutation(item="shm size", key="ShmSize", fields=("shm_bytes",), change=_host("ShmSize", 64 << 20)),
    Mutation(item="IPC namespace", key="IpcMode", change=_host("IpcMode", "host")),
    Mutation(item="cgroup namespace", key="CgroupnsMode", change=_host("CgroupnsMode", "host")),
    Mutation(item="UTS namespace", key="UTSMode", change=_uts),
    Mutation(item="PID namespace", key="PidMode", change=_harmless_in_host_pids, agent=False),
    Mutation(item="network: bridge", key="NetworkMode", fields=("network",), change=_network("bridge")),
    Mutation(item="network: host", key="NetworkMode", fields=("network",), change=_network("host")),
    Mutation(item="log driver", key="LogConfig", change=_host("LogConfig", {"Type": "json-file", "Config": {}})),
    Mutation(
        item="restart policy", key="RestartPolicy", change=_host("RestartPolicy", {"Name": "unless-stopped"})
    ),
    Mutation(item="auto-remove", key="AutoRemove", change=_host("AutoRemove", True)),
    Mutation(
        item="parent cgroup", key="CgroupParent", fields=("cgroup_parent",), change=_host("CgroupParent", "")
    ),
    Mutation(item="project writable", key="Mounts", fields=("mounts",), change=_bind("/work", ReadOnly=False)),
    Mutation(item="project elsewhere", key="Mounts", fields=("mounts",), change=_elsewhere),
    Mutation(
        item="propagation",
        key="Mounts",
        fields=("mounts",),
        change=_bind("/work", BindOptions={"Propagation": "private"}),
    ),
    Mutation(item="engine's socket", key="Mounts", fields=("mounts",), change=_mount("bind", "/run", "/run/host")),
    Mutation(item="a volume", key="Mounts", fields=("mounts", "volumes"), change=_mount("volume", "", "/data")),
    Mutation(item="a bind", key="Binds", change=_host("Binds", ["/usr:/data"])),
    Mutation(item="privileged", key="Privileged", change=_host("Privileged", True)),
    Mutation(item="a device", key="Devices", change=_host("Devices", [DEVICE])),
    Mutation(item="device rules", key="DeviceCgroupRules", change=_host("DeviceCgroupRules", ["c 1:1 rwm"])),
    Mutation(item="masked paths", key="MaskedPaths", change=_host("MaskedPaths", [])),
    Mutation(item="read-only paths", key="ReadonlyPaths", change=_host("ReadonlyPaths", [])),
    Mutation(item="memory killer's score", key="OomScoreAdj", change=_host("OomScoreAdj", 500)),
    Mutation(item="memory killer off", key="OomKillDisable", change=_host("OomKillDisable", True)),
    Mutation(item="another group", key="GroupAdd", change=_host("GroupAdd", ["0"])),
    Mutation(item="init", key="Init", change=_host("Init", True)),
    Mutation(item="sysctl", key="Sysctls", change=_host("Sysctls", {"kernel.shmmax": "1000000"})),
    Mutation(item="CPU set", key="CpusetCpus", change=_host("CpusetCpus", "0")),
    Mutation(item="extra hosts", key="ExtraHosts", change=_host("ExtraHosts", ["other:192.0.2.1"])),
    Mutation(item="name server", key="Dns", change=_host("Dns", ["192.0.2.1"])),
    Mutation(item="a variable less", key="Env", fields=("env",), change=_env_without_a_name),
    Mutation(item=MORE_ENV, key="Env", fields=("env",), change=_env_with_one_more),
    Mutation(item="health check", key="Healthcheck", change=_health_check),
    Mutation(item="host name", key="Hostname", fields=("hostname",), change=_top("Hostname", "other")),
    Mutation(item="working folder", key="WorkingDir", fields=("working_dir",), change=_top("WorkingDir", "/tmp")),
    Mutation(item="labels", key="Labels", fields=("labels",), change=_no_labels),
    Mutation(item="standard input", key="OpenStdin", fields=("stdin_open",), change=_top("OpenStdin", True)),
    Mutation(item="program", key="Entrypoint", fields=("entrypoint",), change=_top("Entrypoint", ["/bin/echo"])),
    Mutation(item="arguments", key="Cmd", fields=("argv",), change=_top("Cmd", ["-c", "exit 0"])),
)
KEYS_LEFT_ALONE: Mapping[str, str] = {
    "Image": "another image is another run: contract tests and tests/unit/engine/isolation/test_attestation.py",
    "StdinOnce": "whether the engine closes standard input after a first client: of no effect on what runs",
    "AttachStdin": "how the create call's own client would attach: of no effect on what runs",
    "AttachStdout": "as above",
    "AttachStderr": "as above",
    "Tty": "the agent's protocol does not survive a terminal: nothing passes; "
    "tests/unit/engine/isolation/test_attestation.py",
    "StopSignal": "how an engine that is ended ends its containers: of no effect on what a test can do",
    "NetworkDisabled": "another way to the same: without it the engine sets up the same empty network",
    "HostConfig": "its keys are here one by one",
}
FIELDS_LEFT_ALONE: Mapping[str, str] = {
    "name": "what the container is called",
    "image_id": "as Image above",
    "tty": "as Tty above",
}


def mutated(body: Mapping[str, Any], mutation: Mutation) -> Body:
    """Return a copy of the request without the item."""
    copy: Body = json.loads(json.dumps(body))
    mutation.change(copy, copy["HostConfig"])
    return copy
