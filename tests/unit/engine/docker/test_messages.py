from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.engine.docker.messages import describe, for_podman, inspection, name_and_tag


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("a", ("a", "latest")),
        ("a:1", ("a", "1")),
        ("host.example:5000/a/b", ("host.example:5000/a/b", "latest")),
        ("host.example:5000/a/b:2", ("host.example:5000/a/b", "2")),
    ],
)
def test_name_and_tag(reference: str, parts: tuple[str, str]) -> None:
    assert name_and_tag(reference) == parts


VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "Components": [{"Name": "Engine"}]}
INFO = {
    "CgroupVersion": "1",
    "CgroupDriver": "cgroupfs",
    "KernelVersion": os.uname().release,
    "NCPU": 2,
    "MemTotal": 1 << 33,
    "SecurityOptions": ["name=seccomp,profile=default"],
    "OperatingSystem": "Debian",
}


def test_a_local_docker() -> None:
    info = describe("unix:///var/run/docker.sock", INFO, VERSION)
    assert (info.name, info.version, info.api_version) == ("docker", "20.10.24", "1.41")
    assert info.local
    assert not info.rootless
    assert (info.cgroup_version, info.cgroup_driver, info.cpus) == (1, "cgroupfs", 2)


@pytest.mark.parametrize(
    ("address", "changes"),
    [
        ("tcp://other:2376", {}),
        ("unix:///x.sock", {"KernelVersion": "0.0.1-other"}),
        ("unix:///x.sock", {"OperatingSystem": "Docker Desktop"}),
    ],
)
def test_an_engine_that_is_elsewhere(address: str, changes: dict[str, str]) -> None:
    assert not describe(address, {**INFO, **changes}, VERSION).local


def test_podman_and_rootless() -> None:
    info = describe(
        "unix:///x.sock",
        {**INFO, "SecurityOptions": ["name=rootless"], "CgroupVersion": "2"},
        {"Components": [{"Name": "Podman Engine"}]},
    )
    assert (info.name, info.rootless, info.cgroup_version) == ("podman", True, 2)


def test_an_engine_that_says_almost_nothing() -> None:
    info = describe("unix:///x.sock", {"Warnings": None, "SecurityOptions": None}, {"Components": None})
    assert (info.version, info.cpus, info.warnings) == ("?", 0, ())
    assert not info.local


def reply(**state: object) -> dict[str, object]:
    return {"Id": "abc", "Name": "/n", "State": {"Status": "exited", **state}}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-21T10:00:00.123456789Z", datetime(2026, 11, 21, 10, 0, 0, 123456, UTC)),
        ("2026-11-21T12:00:00.5+02:00", datetime(2026, 11, 21, 10, 0, 0, 500000, UTC)),
        ("2026-11-21T05:00:00.25-05:00", datetime(2026, 11, 21, 10, 0, 0, 250000, UTC)),
        ("2026-11-21T10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        ("yesterday", None),
        ("2026-99-99T10:00:00.1Z", None),
    ],
)
def test_moments(text: str, moment: datetime | None) -> None:
    seen = inspection(reply(StartedAt=text), local=True).state.started_at
    assert seen == moment
    assert seen is None or seen.tzinfo is not None


def test_what_is_missing_is_none() -> None:
    seen = inspection(reply(), local=True)
    assert (seen.id, seen.name, seen.pid) == ("abc", "n", None)
    assert seen.state.exit_code is None
    effective = seen.effective
    assert (effective.memory_bytes, effective.cpus, effective.pids, effective.seccomp) == (None, None, None, None)
    assert effective.no_new_privileges is None


def test_settings_are_read_back() -> None:
    effective = inspection(
        {
            **reply(),
            "HostConfig": {
                "Memory": 5,
                "NanoCpus": 1_500_000_000,
                "PidsLimit": 7,
                "CapAdd": ["CAP_SYS_PTRACE"],
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges", 'seccomp={"a":1}'],
            },
            "Config": {"User": "1001:1001", "Labels": None},
        },
        local=True,
    ).effective
    assert (effective.memory_bytes, effective.cpus, effective.pids) == (5, 1.5, 7)
    assert effective.capabilities_added == ("SYS_PTRACE",)
    assert effective.seccomp == "profile"
    assert effective.no_new_privileges is True


def test_unconfined_is_told() -> None:
    seen = inspection({**reply(), "HostConfig": {"SecurityOpt": ["seccomp=unconfined"]}}, local=True)
    assert seen.effective.seccomp == "unconfined"


def test_a_pid_means_something_only_where_the_engine_is() -> None:
    assert inspection(reply(Pid=5), local=True).pid == 5
    assert inspection(reply(Pid=5), local=False).pid is None
    assert inspection(reply(Pid=0), local=True).pid is None


def test_podman_gets_the_seccomp_profiles_path_and_no_tmpfs_option_that_it_refuses() -> None:
    options = ["no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_ERRNO"}']
    tmpfs = {"/tmp": "rw,nosuid,nr_inodes=10,mode=1777,uid=1001,gid=1001,exec,size=9"}
    config = {"Image": "i", "HostConfig": {"SecurityOpt": options, "Memory": 1, "Tmpfs": tmpfs}}
    changed = for_podman(config, Path("/run/place/profile.json"))
    assert changed["HostConfig"]["SecurityOpt"] == ["no-new-privileges", "seccomp=/run/place/profile.json"]
    assert changed["HostConfig"]["Tmpfs"] == {"/tmp": "rw,nosuid,mode=1777,exec,size=9"}
    assert (changed["Image"], changed["HostConfig"]["Memory"]) == ("i", 1)
    assert config["HostConfig"] == {"SecurityOpt": options, "Memory": 1, "Tmpfs": tmpfs}
    assert options[1].startswith("seccomp={")
