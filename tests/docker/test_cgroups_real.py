"""The kernel's counters of a container that has ended and was removed."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.engine.metering import parent_cgroups
from orchestrator.measure.cgroup_reader import SeriesReader
from orchestrator.measure.cgroups import (
    AGENT_FILES_V1,
    AGENT_FILES_V2,
    CgroupPaths,
    Counters,
    locate,
    parse_agent,
    process_ids,
    read,
)
from orchestrator.measure.processes import count
from orchestrator.measure.sampler import Sampler
from orchestrator.measure.usage import combine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.docker
BASE = "orch-base:dev"
MIB = 1 << 20
ALLOCATE = "x=$(head -c {size} /dev/zero | tr '\\0' x)"
BURN = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
READ_AGENT_FILES = "for f in {files}; do [ -r $f ] && echo @$f && cat $f; done"


def docker(*arguments: str, data: bytes | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=data, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """Return the development base; if it is missing, an image made from this machine's static busybox."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False).returncode == 0:
        yield BASE
        return
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for program in ("sh", "head", "tr", "cat", "sleep"):
            link = tarfile.TarInfo(f"bin/{program}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    name = f"orch-measure-test:{os.getpid()}"
    docker("import", "-", name, data=archive.getvalue())
    yield name
    docker("image", "rm", name)


@dataclass
class Running:
    """A container that has done its work and waits for an input line."""

    parent: CgroupPaths
    own: CgroupPaths
    version: int
    lines: list[str]
    finish: Callable[[], int]


@contextmanager
def running(image: str, script: str, *options: str) -> Iterator[Running]:
    driver, version = docker("info", "-f", "{{.CgroupDriver}} {{.CgroupVersion}}").split()
    name = f"orch-measure-test-{os.getpid()}"
    # no dash in a slice's name, because systemd would nest it in slices that remain
    parent = f"{name.replace('-', '_')}.slice" if driver == "systemd" else f"/{name}"
    command = ["docker", "run", "-i", "--name", name, f"--cgroup-parent={parent}", "--network=none", *options]
    script = f"{script}\necho ready\nread line\nexit 7"
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, image, "sh", "-c", script], text=True, **streams)  # type: ignore[call-overload]
    paths = None
    try:
        lines: list[str] = []
        while not lines or lines[-1] != "ready":
            line = process.stdout.readline()
            assert line, f"ended early: {lines}"
            lines.append(line.rstrip("\n"))
        identity = docker("inspect", "-f", "{{.Id}}", name)
        inner = f"docker-{identity}.scope" if driver == "systemd" else identity
        paths, own = locate(parent, int(version)), locate(f"{parent}/{inner}", None)
        assert paths is not None
        assert own is not None

        def finish() -> int:
            process.communicate("go\n", timeout=60)
            docker("rm", name)
            return int(process.returncode)

        yield Running(parent=paths, own=own, version=int(version), lines=lines[:-1], finish=finish)
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False, timeout=60)
        process.kill()
        process.communicate()
        paths = paths or locate(parent, int(version))
        assert paths is None or parent_cgroups.remove(paths)
        assert locate(parent, None) is None, "a cgroup is left"


def test_a_parents_figures_outlive_its_container(image: str) -> None:
    with running(image, f"{BURN}\n{ALLOCATE.format(size=24 * MIB)}", "--memory=256m") as container:
        alive = read(container.own)
        assert container.finish() == 7
        assert locate(str(container.own.folders[0].name), container.version) is None
        assert read(container.own) == Counters(events_are_local=container.version == 1)
        after = read(container.parent)
    assert alive.cpu_seconds is not None
    assert after.cpu_seconds is not None
    assert after.cpu_seconds >= alive.cpu_seconds > 0.05
    assert alive.anon_bytes is not None
    assert alive.anon_bytes >= 20 * MIB
    assert after.memory_peak_bytes is not None
    assert after.memory_peak_bytes >= max(24 * MIB, alive.memory_bytes or 0)
    assert after.anon_bytes == 0
    assert after.pids == 0
    assert after.pids_peak is not None
    assert after.pids_peak >= 3  # the shell, head, tr
    usage = combine(
        kernel=after,
        kernel_start=None,
        container=alive,
        agent_start=None,
        agent_end=None,
        stats=None,
        reason=None,
    )
    assert usage.cpu_seconds == after.cpu_seconds
    assert usage.oom_kills == 0
    assert usage.pids_limit_hits == 0
    assert usage.anon_peak_bytes == alive.anon_bytes


def test_which_cgroup_counts_an_oom_kill_and_a_refused_fork(image: str) -> None:
    """On v1 neither is in the parent's counters, only in the container's own, which the agent can read."""
    files = " ".join((*AGENT_FILES_V1, *AGENT_FILES_V2))
    script = f"""
    (tail /dev/zero || {ALLOCATE.format(size=200 * MIB)}) 2>/dev/null
    ({"sleep 1 & " * 30}) 2>/dev/null
    sleep 1.2
    {READ_AGENT_FILES.format(files=files)}"""
    limits = ("--memory=48m", "--memory-swap=48m", "--pids-limit=16", "--cpus=0.5")
    with running(image, script, *limits) as container:
        own = read(container.own)
        agent = parse_agent("\n".join(container.lines))
        container.finish()
        after = read(container.parent)
    assert own.oom_kills is not None
    assert own.oom_kills >= 1
    assert own.pids_limit_hits is not None
    assert own.pids_limit_hits >= 1
    assert own.throttled_periods is not None
    assert (agent.oom_kills, agent.pids_limit_hits) == (own.oom_kills, own.pids_limit_hits)
    assert (agent.memory_peak_bytes, agent.events_are_local) == (own.memory_peak_bytes, own.events_are_local)
    assert after.events_are_local is (container.version == 1)
    if after.events_are_local:
        assert (after.oom_kills, after.pids_limit_hits) == (0, 0)
    else:
        assert after.oom_kills == own.oom_kills
    assert not after.throttled_periods
    usage = combine(
        kernel=after,
        kernel_start=None,
        container=None,
        agent_start=None,
        agent_end=agent,
        stats=None,
        reason=None,
    )
    assert (usage.oom_kills, usage.pids_limit_hits) == (own.oom_kills, own.pids_limit_hits)


def test_samples_of_a_real_container(image: str) -> None:
    with (
        running(image, ALLOCATE.format(size=16 * MIB), "--memory=128m") as container,
        Sampler(0.05) as sampler,
    ):
        sampler.add("a", SeriesReader(container.own), lambda: count(process_ids(container.own)))
        time.sleep(1.3)
        container.finish()
        samples = sampler.take("a")
    assert len(samples) >= 10
    assert samples[-1].at_seconds < 10
    assert all((sample.memory_bytes or 0) >= 16 * MIB for sample in samples[:10])
    assert (samples[0].anon_bytes or 0) >= 16 * MIB
    assert {sample.processes for sample in samples if sample.processes is not None} <= {0, 1}  # 0: it ended
    assert 1 in [sample.processes for sample in samples]
    assert any(sample.open_files for sample in samples)
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if "orch-measure-test" in os.path.realpath(fd)]
