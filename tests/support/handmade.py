"""Builders of values for tests: profiles, assignments, a root file system."""

from __future__ import annotations

import io
import sqlite3
import subprocess
import tarfile
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.engine.agent.output_reader import SlotOutput
from orchestrator.model.evidence import OutputLog
from orchestrator.model.profiles import Limits, Network, Profile
from orchestrator.model.runs import EngineInfo, HostInfo
from orchestrator.model.tests import Assignment, Command, Test, TestId

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BUSYBOX = Path("/bin/busybox")
ENGINE = EngineInfo(
    name="docker",
    version="20.10.24+dfsg1",
    api_version="1.41",
    address="unix:///var/run/docker.sock",
    local=True,
    cgroup_version=1,
    cgroup_driver="cgroupfs",
    rootless=False,
    cpus=2,
    memory_bytes=22 << 30,
    kernel="5.10",
    operating_system="Debian",
    architecture="x86_64",
)
HOST = HostInfo(id="abc123", cpus=2.0, memory_bytes=22 << 30, kernel="5.10", python="3.11.2")
OPEN_SECCOMP = '{"defaultAction":"SCMP_ACT_ALLOW"}'


def make_tar(files: Mapping[str, bytes], mode: int = 0o755) -> bytes:
    """Return a tar archive of regular files."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode, len(content)
            archive.addfile(member, io.BytesIO(content))
    return held.getvalue()


def busybox_rootfs(*, shell: Path | None = None) -> bytes:
    """Return a root file system of one static program as a tar archive; `shell` is a program to install as
    /bin/sh.
    """
    if not BUSYBOX.is_file():
        pytest.fail(f"{BUSYBOX} is missing: install the package busybox-static", pytrace=False)
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True, timeout=10)
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name in ("bin", "dev", "etc", "proc", "sys", "run", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        programs = {"bin/busybox": BUSYBOX}
        if shell is not None:
            programs |= {"bin/sh": shell, **_libraries(shell)}
        for name, path in programs.items():
            program = tarfile.TarInfo(name)
            content = path.read_bytes()
            program.mode, program.size = 0o755, len(content)
            archive.addfile(program, io.BytesIO(content))
        for name in listed.stdout.split():
            if name != "busybox" and (name != "sh" or shell is None):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        passwd = tarfile.TarInfo("etc/passwd")
        passwd.size = len(line := b"orch:x:1001:1001::/tmp:/bin/sh\n")
        archive.addfile(passwd, io.BytesIO(line))
    return held.getvalue()


def _libraries(program: Path) -> dict[str, Path]:
    """Return the libraries of a program: place in the root file system -> file on this machine."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, timeout=10).stdout
    paths = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return {path.lstrip("/"): Path(path) for path in paths}


def make_profile(**changes: Any) -> Profile:
    """Return a profile with small limits; `changes` are fields of Profile or of Limits."""
    limits: dict[str, Any] = {
        "cpus": 1.0,
        "memory_bytes": 64 << 20,
        "timeout_seconds": 20.0,
        "tmpfs_bytes": 16 << 20,
        "tmpfs_inodes": 1000,
        "outputs_bytes": 8 << 20,
        "shm_bytes": 1 << 20,
        "pids": 64,
        "nofile": 256,
        "log_bytes": 1 << 20,
    }
    limits |= {name: changes.pop(name) for name in list(changes) if name in limits}
    fields: dict[str, Any] = {
        "name": "small",
        "network": Network.NONE,
        "image": "tiny",
        "grace_seconds": 0.5,
        **changes,
    }
    return Profile(limits=Limits(**limits), **fields)


def make_assignment(*argv: str, **changes: Any) -> Assignment:
    """Return an assignment of a test that runs `argv`; `changes` are fields of Assignment, Command, Profile or
    Limits, or `path`.
    """
    command = {name: changes.pop(name) for name in ("env", "working_dir", "preload") if name in changes}
    of_assignment = {
        name: changes.pop(name) for name in ("run_id", "attempt", "repetition", "profile") if name in changes
    }
    path = changes.pop("path", "tests/thing.sh")
    case = changes.pop("case", None)
    return Assignment(
        **{
            "run_id": str(uuid.uuid4()),
            "profile": make_profile(**changes),
            "reason": "made by hand",
            **of_assignment,
        },
        test=Test(
            id=TestId(path=path, case=case), suite="hand", command=Command(argv=argv or ("true",), **command)
        ),
    )


@contextmanager
def plain_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection beside orch's own. It is committed on success and closed, which sqlite3's own context
    manager does not do.
    """
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def make_slot_output(**changes: Any) -> SlotOutput:
    """Return the output of a test that was silent and not ended; `changes` are other fields of `SlotOutput`."""
    silent = OutputLog(path=None, total_bytes=0, kept_bytes=0, tail=b"")
    fields: dict[str, Any] = {
        "record": None,
        "begin_counters": "",
        "end_counters": "",
        "clean_counters": "",
        "timed_out": False,
        "interrupted": False,
        "started_at": datetime.now(UTC),
        "test_seconds": 1.0,
        "prepare_seconds": 0.0,
        "stdout": silent,
        "stderr": silent,
        "outputs": (),
        "outputs_notes": (),
    }
    return SlotOutput(**{**fields, **changes})
