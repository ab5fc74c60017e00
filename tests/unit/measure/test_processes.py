from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from orchestrator.measure import processes
from orchestrator.measure.processes import count, host_info, owner_alive, owner_token

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


def write(place: Path, **files: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text + "\n")


def test_host_info_grants_no_more_than_there_is() -> None:
    host = host_info()
    assert 0 < host.cpus <= len(os.sched_getaffinity(0))
    assert 0 < host.memory_bytes <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert host.id == host_info().id
    assert len(host.id) == 16
    assert host.kernel == os.uname().release


def test_affinity_counts() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from orchestrator.measure.processes import host_info; print(host_info().cpus)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 1.0


def test_the_tightest_limit_on_the_way_up_holds_on_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    write(tmp_path / "a/b/c", cpu__max="max 100000", memory__max="max")
    write(tmp_path / "a/b", cpu__max="150000 100000", memory__max=str(2 * GIB))
    write(tmp_path / "a", cpu__max="400000 100000", memory__max=str(3 * GIB))
    assert processes._granted_cpus("0::/a/b/c\n", tmp_path, 8.0) == 1.5
    assert processes._granted_cpus("0::/a/b/c\n", tmp_path, 1.0) == 1.0
    assert processes._granted_memory("0::/a/b/c\n", tmp_path, 16 * GIB) == 2 * GIB
    assert processes._granted_memory("0::/a/b/c\n", tmp_path, GIB) == GIB


def test_limits_on_v1_and_in_a_container_that_sees_only_its_own(tmp_path: Path) -> None:
    own = "4:memory:/docker/ff\n2:cpu,cpuacct:/docker/ff\n1:name=systemd:/x\n0::/docker/ff\n"
    write(tmp_path / "memory", memory__limit_in_bytes=str(GIB))
    write(tmp_path / "cpu,cpuacct", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert processes._granted_cpus(own, tmp_path, 8.0) == 0.5
    assert processes._granted_memory(own, tmp_path, 16 * GIB) == GIB
    write(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712")
    write(tmp_path / "cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert processes._granted_cpus(own, tmp_path, 8.0) == 8.0
    assert processes._granted_memory(own, tmp_path, 16 * GIB) == 16 * GIB


def test_an_owner_lives_as_long_as_its_process() -> None:
    code = "from orchestrator.measure.processes import owner_token; print(owner_token(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        token = child.stdout.readline().strip()
        assert owner_alive(token)
        child.kill()
        deadline = time.monotonic() + 5
        while owner_alive(token):  # also as a zombie, before anyone has waited for it
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert child.returncode is None
    assert not owner_alive(token)


def test_a_recycled_pid_and_another_boot_are_not_the_owner() -> None:
    token = owner_token()
    boot, pid, start = token.split(":")
    assert pid == str(os.getpid())
    assert owner_alive(token)
    assert not owner_alive(f"{boot}:{pid}:{int(start) - 1}")
    assert not owner_alive(f"00000000-0000-0000-0000-000000000000.1:{pid}:{start}")
    for garbage in (
        "",
        ":",
        "::",
        "x",
        f"{boot}::",
        f"{boot}:-1:0",
        f"{boot}:{pid}",
        f"{boot}:999999999:{start}",
    ):
        assert not owner_alive(garbage)


def test_an_owner_in_another_pid_namespace_cannot_be_judged_and_is_left_alone() -> None:
    boot, _, rest = owner_token().partition(":")
    assert owner_alive(f"{boot.partition('.')[0]}.4242:{rest}")


def test_count() -> None:
    code = "import threading,time; threading.Thread(target=input).start(); print('up', flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alone = count([child.pid])
        both = count([child.pid, os.getpid(), 999_999_999])
        child.communicate("\n")
    assert alone.processes == 1
    assert alone.threads is not None
    assert alone.threads >= 2
    assert alone.open_files is not None
    assert alone.open_files >= 3
    assert alone.threads_max == alone.threads
    assert alone.open_files_max == alone.open_files
    assert both.processes == 2
    assert both.threads is not None
    assert both.threads_max is not None
    assert alone.threads <= both.threads_max <= both.threads - 1
    assert count([]).processes == 0
