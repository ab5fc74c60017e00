"""Makes the container settings of a profile: the only place that defines how containers are isolated. Pure.

docs/design/engine/hardening.md lists the reason and the proof of each setting.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING

from orchestrator.engine.agent.artifacts import archive_cap_bytes
from orchestrator.engine.base import ContainerSpec, Mount
from orchestrator.engine.images.agent_shell import ORDINARY_SHELL, SHELL, USER_NAME
from orchestrator.engine.isolation.effective_limits import LIMIT_FILES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.model.profiles import Profile
    from orchestrator.model.tests import Assignment, Command

USER = "1001:1001"
PROJECT_DIR = "/work"
"""The project's folder inside a container, and the default working directory of tests."""
OUTPUT_DIR = "/output"
WRITABLE = ("/tmp", OUTPUT_DIR, "/dev/shm", "/dev/mqueue")  # noqa: S108 - inside the container
"""The only folders in which a test may write."""
STREAMS_DIR = "/run/orch"
HOSTNAME = "orch"
BASE_ENV: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",  # noqa: S108 - inside the container, a tmpfs of its own
    "TMPDIR": "/tmp",  # noqa: S108 - as above
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "USER": USER_NAME,
    "LOGNAME": USER_NAME,
    "ORCH_OUTPUT_DIR": OUTPUT_DIR,
}
START = f'command exec 3>/proc/self/oom_score_adj; exec {SHELL} -c "$0" orch-agent "$1"'
"""The command that starts the agent, run by the image's ordinary shell.

It opens oom_score_adj first: the agent's own shell, whose file is not readable, cannot open it, but can write to
the open descriptor.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerContext:
    """The settings that are the same for all containers of a run."""

    project_root: Path
    state_dir: Path | None
    """The folder of results; hidden from tests if it lies inside the project."""
    seccomp: str
    """The seccomp profile's JSON text."""
    counters: tuple[str, ...]
    """The counter files that the agent reads, as paths inside the container."""
    next_counters: tuple[str, ...] = ()
    """The counter files that the agent reads after each test of a reused slot; orch reads the others itself."""


def agent_text() -> str:
    """Return the agent's program, the text of agent.sh."""
    return files("orchestrator.engine.agent").joinpath("agent.sh").read_text(encoding="utf-8")


def container_spec(
    profile: Profile,
    context: ContainerContext,
    *,
    name: str,
    image_id: str,
    labels: Mapping[str, str],
    streams_dir: Path | None,
    cgroup_parent: str | None,
    volumes: frozenset[str] = frozenset(),
) -> ContainerSpec:
    """Return the container settings of one slot.

    `streams_dir` is the folder of its FIFOs, None if its streams go through the engine's attach call.
    """
    place = "-" if streams_dir is None else STREAMS_DIR
    mounts = [Mount(source=str(context.project_root), target=PROJECT_DIR)]
    if streams_dir is not None:
        # read-only: only creating a file needs a writable mount, writing to a FIFO does not
        mounts.append(Mount(source=str(streams_dir), target=STREAMS_DIR))
    limits = profile.limits
    return ContainerSpec(
        name=name,
        image_id=image_id,
        volumes=volumes,
        entrypoint=(ORDINARY_SHELL,),
        argv=("-c", START, agent_text(), place),
        env={
            **BASE_ENV,
            "ORCH_COUNTERS": " ".join(context.counters),
            "ORCH_NEXT_COUNTERS": " ".join(context.next_counters),
            "ORCH_LIMITS": " ".join(LIMIT_FILES),
            "ORCH_OUTPUT_CAP": str(archive_cap_bytes(limits.outputs_bytes)),
        },
        labels=labels,
        user=USER,
        working_dir="/",
        hostname=HOSTNAME,
        network=profile.network.value,
        mounts=tuple(mounts),
        tmpfs=_tmpfs(profile, context),
        cpus=limits.cpus,
        memory_bytes=limits.memory_bytes,
        pids=limits.pids,
        nofile=limits.nofile,
        shm_bytes=limits.shm_bytes,
        capabilities=profile.capabilities,
        seccomp=context.seccomp,
        cgroup_parent=cgroup_parent,
        stdin_open=streams_dir is None,
    )


def _tmpfs(profile: Profile, context: ContainerContext) -> dict[str, str]:
    limits = profile.limits
    # owned by the tests' user: if the image has a folder of that name, runc gives the mount that folder's mode
    owner = "uid={},gid={}".format(*USER.split(":"))
    common = f"rw,nosuid,nodev,nr_inodes={limits.tmpfs_inodes},mode=1777,{owner}"
    places = {
        # exec: compiled tests and JIT caches run from there; the engine's default is noexec
        "/tmp": f"{common},exec,size={limits.tmpfs_bytes}",  # noqa: S108 - inside the container
        OUTPUT_DIR: f"{common},noexec,size={limits.outputs_bytes}",
    }
    hidden = _inside(context.state_dir, context.project_root)
    if hidden is not None:
        places[f"{PROJECT_DIR}/{hidden}"] = "ro,nosuid,nodev,noexec,size=4k,mode=555"
    return places


def _inside(folder: Path | None, root: Path) -> str | None:
    if folder is None or not folder.is_relative_to(root) or folder == root:
        return None
    return folder.relative_to(root).as_posix()


def test_env(assignment: Assignment) -> dict[str, str]:
    """Return a test's environment variables: orch's, Bazel's names for the same values, and the suite's."""
    return {**common_env(assignment), **own_env(assignment), **assignment.test.command.env}


def own_env(assignment: Assignment) -> dict[str, str]:
    """Return the environment variables that differ from test to test."""
    return {
        "ORCH_TEST_ID": str(assignment.test.id).encode(errors="replace").decode(),
        "ORCH_ATTEMPT": str(assignment.attempt),
    }


def common_env(assignment: Assignment) -> dict[str, str]:
    """Return the environment variables that are the same for all tests of a run under one profile."""
    limits = assignment.profile.limits
    return {
        "ORCH": "1",
        "ORCH_RUN_ID": assignment.run_id,
        "ORCH_PROFILE": assignment.profile.name,
        "ORCH_MEMORY_LIMIT": str(limits.memory_bytes),
        "ORCH_CPU_LIMIT": f"{limits.cpus:g}",
        "TEST_TMPDIR": "/tmp",  # noqa: S108 - inside the container
        "TEST_TIMEOUT": f"{limits.timeout_seconds:g}",
        "TEST_SHARD_INDEX": "0",
        "TEST_TOTAL_SHARDS": "1",
        "TEST_UNDECLARED_OUTPUTS_DIR": OUTPUT_DIR,
        "XML_OUTPUT_FILE": f"{OUTPUT_DIR}/junit.xml",
    }


def without_agent(spec: ContainerSpec, assignment: Assignment) -> ContainerSpec:
    """Return the settings with the test in place of the agent, for an image without a shell."""
    argv = argv_inside(assignment.test.command)
    return replace(
        spec,
        entrypoint=(argv[0],),
        argv=tuple(argv[1:]),
        env={**BASE_ENV, **test_env(assignment)},
        working_dir=work_folder(assignment.test.command),
        mounts=tuple(mount for mount in spec.mounts if mount.target != STREAMS_DIR),
        stdin_open=False,
    )


def work_folder(command: Command) -> str:
    """Return a test's working directory inside the container."""
    return PROJECT_DIR if command.working_dir in ("", ".") else f"{PROJECT_DIR}/{command.working_dir}"


def argv_inside(command: Command) -> list[str]:
    """Return a test's command with `{output_dir}` replaced by the folder inside the container."""
    return [word.replace("{output_dir}", OUTPUT_DIR) for word in command.argv]


def environment(assignment: Assignment) -> str:
    """Return the line of agent script that defines the variables common to this and later tests of its profile."""
    return _exporting("environment", {**common_env(assignment), **assignment.test.command.env})


def order(assignment: Assignment, *, first: bool, keep: bool) -> str:
    """Return the lines of agent script that run one test; they follow those of `environment` (see agent.sh)."""
    command = assignment.test.command
    own = {name: text for name, text in own_env(assignment).items() if name not in command.env}
    words = ["first" if first else "next", "keep" if keep else "last", work_folder(command), *argv_inside(command)]
    return f"{_exporting('own', own)}orch_test {shlex.join(words)}\n"


def _exporting(function: str, env: Mapping[str, str]) -> str:
    words = " ".join(f"{name}={shlex.quote(text)}" for name, text in env.items())
    return f"{function}() {{ export {words}; }}\n" if words else f"{function}() {{ :; }}\n"
