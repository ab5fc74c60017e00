from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.engine.docker import messages
from orchestrator.engine.isolation.hardening import (
    BASE_ENV,
    OUTPUT_DIR,
    PROJECT_DIR,
    STREAMS_DIR,
    ContainerContext,
    container_spec,
    environment,
    order,
)
from orchestrator.engine.isolation.hardening import test_env as env_of
from orchestrator.model.profiles import Network
from tests.support.handmade import OPEN_SECCOMP, make_assignment, make_profile

CONTEXT = ContainerContext(
    project_root=Path("/home/me/project"),
    state_dir=Path("/home/me/project/.orch"),
    seccomp=OPEN_SECCOMP,
    counters=("/sys/fs/cgroup/a", "/sys/fs/cgroup/b"),
)
PROFILES = st.builds(
    make_profile,
    cpus=st.floats(0.01, 64),
    memory_bytes=st.integers(6 << 20, 1 << 40),
    pids=st.integers(1, 10_000),
    nofile=st.integers(16, 1 << 20),
    tmpfs_bytes=st.integers(4096, 1 << 35),
    network=st.sampled_from(Network),
    capabilities=st.sampled_from([(), ("SYS_PTRACE",)]),
)


def spec_of(profile: Any, streams: Path | None = Path("/tmp/orch-x/slot-1")) -> Any:
    return container_spec(
        profile,
        CONTEXT,
        name="n",
        image_id="sha256:1",
        labels={"a": "b"},
        streams_dir=streams,
        cgroup_parent="/orch-1-1",
    )


@given(PROFILES)
def test_every_item_of_the_hardening_for_any_profile(profile: Any) -> None:
    spec = spec_of(profile)
    body = messages.container_config(spec)
    host = body["HostConfig"]
    assert body["User"] == "1001:1001"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == list(profile.capabilities)
    assert host["SecurityOpt"] == ["no-new-privileges", f"seccomp={OPEN_SECCOMP}"]
    assert host["Memory"] == host["MemorySwap"] == profile.limits.memory_bytes
    assert host["NanoCpus"] == round(profile.limits.cpus * 1e9)
    assert host["PidsLimit"] == profile.limits.pids
    assert {"Name": "nofile", "Soft": profile.limits.nofile, "Hard": profile.limits.nofile} in host["Ulimits"]
    assert {"Name": "core", "Soft": 0, "Hard": 0} in host["Ulimits"]
    assert host["NetworkMode"] == profile.network.value
    assert host["IpcMode"] == "private"
    assert host["ShmSize"] == profile.limits.shm_bytes
    assert host["LogConfig"]["Type"] == "none"
    assert host["AutoRemove"] is False
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["CgroupParent"] == "/orch-1-1"
    assert body["Healthcheck"] == {"Test": ["NONE"]}
    assert body["Tty"] is False
    for dangerous in (
        "Privileged",
        "Devices",
        "Binds",
        "VolumesFrom",
        "PidMode",
        "UsernsMode",
        "GroupAdd",
        "Links",
    ):
        assert not host.get(dangerous)
    assert all(mount["ReadOnly"] and mount["Type"] == "bind" for mount in host["Mounts"])
    assert all(mount["BindOptions"] == {"Propagation": "rprivate"} for mount in host["Mounts"])
    assert {mount["Target"] for mount in host["Mounts"]} == {PROJECT_DIR, STREAMS_DIR}
    for place, options in host["Tmpfs"].items():
        words = options.split(",")
        assert {"nosuid", "nodev"} <= set(words), place
        assert any(word.startswith("size=") for word in words), place
    assert f"size={profile.limits.tmpfs_bytes}" in host["Tmpfs"]["/tmp"].split(",")
    assert f"nr_inodes={profile.limits.tmpfs_inodes}" in host["Tmpfs"]["/tmp"].split(",")
    assert f"size={profile.limits.outputs_bytes}" in host["Tmpfs"][OUTPUT_DIR].split(",")
    assert "ro" in host["Tmpfs"][f"{PROJECT_DIR}/.orch"].split(",")


def test_attached_streams_need_no_mount_and_an_open_input() -> None:
    body = messages.container_config(spec_of(make_profile(), streams=None))
    assert [mount["Target"] for mount in body["HostConfig"]["Mounts"]] == [PROJECT_DIR]
    assert body["OpenStdin"] is True
    assert body["Cmd"][-1] == "-"
    other = messages.container_config(spec_of(make_profile()))
    assert other["OpenStdin"] is False
    assert other["Cmd"][-1] == STREAMS_DIR


@pytest.mark.parametrize(
    "state", [None, Path("/var/state"), Path("/home/me/project"), Path("/home/me/project-2/.orch")]
)
def test_a_state_folder_elsewhere_is_not_hidden(state: Path | None) -> None:
    context = ContainerContext(project_root=CONTEXT.project_root, state_dir=state, seccomp="{}", counters=())
    spec = container_spec(
        make_profile(), context, name="n", image_id="i", labels={}, streams_dir=None, cgroup_parent=None
    )
    assert set(spec.tmpfs) == {"/tmp", OUTPUT_DIR}


def test_the_environment_is_a_list_of_its_own() -> None:
    spec = spec_of(make_profile())
    assert set(spec.env) == {*BASE_ENV, "ORCH_COUNTERS", "ORCH_NEXT_COUNTERS", "ORCH_LIMITS", "ORCH_OUTPUT_CAP"}
    assert spec.env["ORCH_COUNTERS"] == "/sys/fs/cgroup/a /sys/fs/cgroup/b"


def test_what_a_test_is_told() -> None:
    assignment = make_assignment("x", env={"MINE": "1", "ORCH": "0"}, path="t/a.sh", case="c", memory_bytes=77)
    env = env_of(assignment)
    assert env["ORCH_TEST_ID"] == "t/a.sh::c"
    assert env["ORCH_MEMORY_LIMIT"] == "77"
    assert env["MINE"] == "1"
    assert env["ORCH"] == "0"
    assert not any("nonce" in name.lower() for name in env)


# ---------------------------------------------------------------- the order, read by real shells

SHOW = r"""
orch_test() {
    environment
    own
    while [ $# -gt 0 ]; do printf '%s\000' "$1"; shift; done
    printf '%s\000' -- "$V" "$ORCH_TEST_ID"
}
"""
NASTY = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30),
    st.sampled_from(
        [
            "",
            "'",
            '"\'"',
            "$(touch x)",
            "`id`",
            "\\",
            "\\n",
            "a\nb",
            "\n",
            "--",
            "-x",
            "*",
            "~",
            "!",
            "&;|<>",
            "\r\n",
            "# c",
        ]
    ),
    st.binary(max_size=20).map(lambda b: b.replace(b"\0", b"").decode(errors="surrogateescape")),
)


@pytest.mark.parametrize("shell", [("/bin/dash",), ("/bin/busybox", "sh")], ids=["dash", "ash"])
def test_any_arguments_arrive_unchanged(shell: tuple[str, ...]) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(NASTY, min_size=1, max_size=5), NASTY, st.booleans())
    def check(argv: list[str], value: str, keep: bool) -> None:
        assignment = make_assignment(*argv, env={"V": value}, working_dir="a folder")
        script = SHOW + environment(assignment) + order(assignment, first=keep, keep=keep)
        sent = script.encode(errors="surrogateescape")
        done = subprocess.run([*shell], input=sent, capture_output=True, check=True, timeout=10)
        words = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
        end = len(words) - 3
        assert words[:3] == ["first" if keep else "next", "keep" if keep else "last", "/work/a folder"]
        assert words[3:end] == [word.replace("{output_dir}", OUTPUT_DIR) for word in argv]
        assert words[end:] == ["--", value, str(assignment.test.id)]
        assert done.stderr == b""

    check()


def test_the_output_folder_is_put_in() -> None:
    text = order(make_assignment("x", "--out={output_dir}/r.xml"), first=True, keep=False)
    assert text.endswith("\norch_test first last /work x --out=/output/r.xml\n")


def test_a_variable_of_the_suite_wins_over_our_own() -> None:
    assignment = make_assignment("x", env={"ORCH_TEST_ID": "mine"})
    assert "ORCH_TEST_ID=mine" in environment(assignment)
    assert "ORCH_TEST_ID" not in order(assignment, first=True, keep=False)


def test_a_hosts_file_takes_the_place_of_network_set_up() -> None:
    spec = spec_of(make_profile(), streams=None)
    plain = messages.container_config(spec)
    assert plain["NetworkDisabled"] is False
    assert [m["Target"] for m in plain["HostConfig"]["Mounts"]] == [PROJECT_DIR]
    bare = messages.container_config(spec, hosts_file=Path("/run/place/hosts"))
    assert bare["NetworkDisabled"] is True
    assert bare["HostConfig"]["NetworkMode"] == "none"
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in bare["HostConfig"]["Mounts"]][1:] == [
        ("/run/place/hosts", "/etc/hosts", True)
    ]
