from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.base import ContainerSpec, Inspection
from orchestrator.engine.isolation.attestation import attest
from orchestrator.engine.isolation.hardening import ContainerContext, container_spec
from orchestrator.engine.isolation.kernel_view import (
    KernelView,
    host_paths,
    parse_agent_view,
    parse_limit,
    parse_mounts,
    read_process,
)
from orchestrator.model.evidence import EngineState
from orchestrator.testing.container import effective_of
from tests.support.handmade import ENGINE, make_profile

if TYPE_CHECKING:
    from orchestrator.model.runs import EngineInfo

CONTEXT = ContainerContext(
    project_root=Path("/home/a b/p"), state_dir=Path("/home/a b/p/.orch"), seccomp="{}", counters=()
)
SPEC = container_spec(
    make_profile(),
    CONTEXT,
    name="n",
    image_id="sha256:1",
    labels={},
    streams_dir=Path("/tmp/run/slot-1"),
    cgroup_parent=None,
)
IPC = "a namespace of its own asked, this machine's ipc namespace in the kernel"
# Of Docker 20.10 on cgroup v1, with the profile of tests/support/handmade.py; names shortened.
MOUNTINFO = r"""
198 100 0:69 / / ro,relatime master:21 - overlay overlay rw,lowerdir=/a:/b
199 198 0:72 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
200 198 0:73 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
201 200 0:74 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=666
202 198 0:75 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
203 202 0:76 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
204 203 0:29 / /sys/fs/cgroup/cpu ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,cpu
213 200 0:71 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
214 200 0:77 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=1024k
215 198 254:1 /a\040b/p /work ro,relatime - ext4 /dev/vdb rw
216 198 0:78 / /tmp rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=16384k,nr_inodes=1000,uid=1001,gid=1001
217 198 0:79 / /output rw,nosuid,nodev,noexec - tmpfs tmpfs rw,size=8192k,nr_inodes=1000,uid=1001,gid=1001
218 198 254:0 /tmp/run/slot-1 /run/orch ro,relatime - ext4 /dev/vda rw
219 198 254:0 /var/lib/docker/x/hostname /etc/hostname ro,relatime - ext4 /dev/vda rw
220 198 254:0 /tmp/run/orch-hosts-1 /etc/hosts ro,relatime - ext4 /dev/vda rw
221 215 0:80 / /work/.orch ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=4k,mode=555
104 199 0:72 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
106 199 0:73 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
108 202 0:82 / /sys/firmware ro,relatime - tmpfs tmpfs ro
"""
HERE = """
20 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
21 20 254:1 / /home rw,relatime shared:2 - ext4 /dev/vdb rw
"""


def view(text: str = MOUNTINFO, **changes: Any) -> KernelView:
    plain = KernelView(
        mounts=tuple(parse_mounts(text)),
        host_mounts=tuple(parse_mounts(HERE)),
        maskable=("/proc/keys", "/proc/sys", "/sys/firmware"),
        nofile=(256, 256),
        core=(0, 0),
        uids=(1001,) * 4,
        gids=(1001,) * 5,
        pids=(4711, 1),
        oom_score_adj=0,
        shared_namespaces=(),
    )
    return replace(plain, **changes)


def mismatches(seen: KernelView, *, asked: ContainerSpec = SPEC, info: EngineInfo = ENGINE) -> tuple[str, ...]:
    inspection = Inspection(id="i", name="n", state=EngineState(status="running"), effective=effective_of(asked))
    return attest(inspection, asked=asked, begin="", info=info, host_view=seen).mismatches


def test_a_container_as_asked_for() -> None:
    assert mismatches(view()) == ()


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        ("/ / ro,", "/ / rw,", "read-only root asked, writable in the kernel"),
        ("/work ro,", "/work rw,", "/work: read-only asked, writable in the kernel"),
        ("/a\\040b/p /work", "/other /work", "/work: /home/a b/p asked, /home/other in the kernel"),
        (" /work ", " /elsewhere ", "a mount at /work asked, none in the kernel"),
        ("/work/.orch ro", "/work/.orch rw", "/work/.orch: ro asked, not so in the kernel"),
        ("/tmp rw,nosuid,nodev", "/tmp rw,nodev", "/tmp: nosuid asked, not so in the kernel"),
        ("/tmp rw,nosuid,nodev", "/tmp rw,nosuid", "/tmp: nodev asked, not so in the kernel"),
        ("/tmp rw,nosuid", "/tmp rw,noexec,nosuid", "/tmp: exec asked, noexec in the kernel"),
        ("/output rw,nosuid,nodev,noexec", "/output rw,nosuid,nodev", "/output: noexec asked, not so in"),
        ("size=16384k,nr", "size=32768k,nr", "/tmp: size 16777216 asked, 32768k in the kernel"),
        ("size=16384k,nr", "nr", "/tmp: size 16777216 asked, no limit in the kernel"),
        ("size=16384k,nr_inodes=1000,", "size=16384k,", "/tmp: nr_inodes 1000 asked, no limit in the kernel"),
        ("size=16384k,nr_inodes=1000,uid=1001,", "size=16384k,nr_inodes=1000,", "/tmp: uid 1001 asked, 0 in"),
        ("rw,size=16384k", "rw,mode=755,size=16384k", "/tmp: mode 1777 asked, 755 in the kernel"),
        ("rw,size=1024k", "rw,size=65536k", "/dev/shm: size 1048576 asked, 65536k in the kernel"),
        ("/sys/fs/cgroup/cpu ro", "/sys/fs/cgroup/cpu rw", "/sys/fs/cgroup/cpu is writable in the kernel"),
        ("/sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro", "/sys rw - sysfs sysfs rw", "/sys is writ"),
        ("/proc/sys ro", "/proc/sys rw", "/proc/sys is writable in the kernel"),
        ("/null /proc/keys", "/keys /proc/keys", "/proc/keys is writable in the kernel"),
        (" /proc/keys ", " /proc/latency_stats ", "/proc/keys asked to be closed, open in the kernel"),
        (" /etc/hostname ", " /var/run/docker.sock ", "nobody asked for what is mounted at /var/run/"),
        (" /etc/hostname ", " /work/sub ", None),
        ("x/hostname /etc/hostname ro", "x/hostname /work/sub rw", "/work/sub is a file system of its own below"),
        ("/work ro,relatime -", "/work ro,relatime shared:7 -", "mounts made below /work appear elsewhere too"),
    ],
)  # fmt: skip
def test_a_mount_that_differs_is_a_sentence(was: str, becomes: str, sentence: str | None) -> None:
    assert was in MOUNTINFO
    found = mismatches(view(MOUNTINFO.replace(was, becomes)))
    if sentence is None:
        assert found == ()
    else:
        assert any(one.startswith(sentence) for one in found), found


def test_a_mount_that_covers_another() -> None:
    cover = "300 198 0:90 / /work rw - tmpfs tmpfs rw,size=4k\n"
    assert "/work is covered by another mount in the kernel" in mismatches(view(MOUNTINFO + cover))


def test_a_folder_of_results_that_is_a_file_system_of_its_own_is_covered_by_ours() -> None:
    ours = next(line for line in MOUNTINFO.splitlines() if " /work/.orch " in line)
    theirs = "300 198 0:90 / /work/.orch rw - tmpfs tmpfs rw,size=3m\n"
    assert mismatches(view(MOUNTINFO.replace(f"{ours}\n", f"{theirs}{ours}\n"))) == ()
    assert mismatches(view(MOUNTINFO + theirs)) != ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"nofile": (256, 4096)}, "open files: (256, 256) asked, (256, 4096) in the kernel"),
        ({"core": (0, -1)}, "core dumps: (0, 0) asked, (0, -1) in the kernel"),
        ({"uids": (1001, 0, 0, 0)}, "user: 1001 asked, 0, 1001 in the kernel"),
        ({"gids": (1001, 1001, 1001, 1001, 0)}, "group: 1001 asked, 0, 1001 in the kernel"),
        ({"pids": (4711,)}, "a process namespace of its own asked, this machine's in the kernel"),
        ({"oom_score_adj": -500}, "oom_score_adj: 0 asked, -500 in the kernel"),
        ({"shared_namespaces": ("ipc",)}, IPC),
    ],
)  # fmt: skip
def test_a_process_that_differs_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert mismatches(view(**changes)) == (sentence,)


def test_podman_has_files_and_devices_of_its_own_and_no_inode_limit() -> None:
    extra = """\
301 198 0:91 /x /run/.containerenv rw,nosuid - tmpfs tmpfs rw
302 200 0:6 /zero /dev/zero rw,nosuid - devtmpfs udev rw
303 198 0:91 /h /etc/resolv.conf rw,nosuid - tmpfs tmpfs rw
"""
    text = MOUNTINFO.replace(",nr_inodes=1000,uid=1001,gid=1001", "") + extra
    assert mismatches(view(text), info=replace(ENGINE, name="podman")) == ()
    assert len(mismatches(view(MOUNTINFO + extra))) == 2  # Docker makes the two files read-only, or not at all


def test_this_process_as_the_kernel_shows_it() -> None:
    seen = read_process(os.getpid())
    assert seen is not None
    assert seen.uids == (os.getuid(), os.geteuid(), os.geteuid(), os.geteuid())
    assert seen.mounts is not None
    assert any(mount.target == "/proc" and mount.kind == "proc" for mount in seen.mounts)
    assert seen.shared_namespaces is not None
    assert "pid" in seen.shared_namespaces
    assert read_process(2**22 + 1) is None


def test_an_agents_lines_say_the_same() -> None:
    lines = [f"mount {line}" for line in MOUNTINFO.strip().splitlines()]
    limits = ["limit Max core file size  0  0  bytes", "limit Max open files  256  unlimited  files"]
    seen = parse_agent_view("\n".join([*lines, *limits, "@/x", "mount 1 2 0:1 / /later rw - tmpfs tmpfs rw"]))
    assert seen.mounts == tuple(parse_mounts(MOUNTINFO))
    assert (seen.core, seen.nofile) == ((0, 0), (256, -1))
    assert parse_agent_view("") == KernelView()


def test_a_folder_is_named_by_the_mount_that_it_is_on() -> None:
    here = tuple(parse_mounts(HERE))
    (mount,) = parse_mounts("1 2 254:1 /x /work ro - ext4 /dev/vdb rw")
    assert host_paths(mount, here) == {"/home/x"}
    assert host_paths(replace(mount, root="/"), here) == {"/home"}
    assert host_paths(replace(mount, device="9:9"), here) == set()


@given(st.text(alphabet="0123456789/ abtmpfs-,=:\\\n", max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    mismatches(view(text))
    parse_limit(text.split("\n"), "a")
