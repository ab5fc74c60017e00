"""Checks groups 3 and 10, sizes and limits, by reaching them."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from orchestrator.engine.self_test.probes.common import cgroup_file, in_child, say

CHUNK = 1 << 20
ROOM = 24 << 20
"""The memory that the probe and its cgroup may need in addition to a full /tmp."""


def tmpfs(expected: dict[str, Any]) -> None:
    """Check the size, inodes and options of the tmpfs mounts (group 3)."""
    seen = os.statvfs("/tmp")
    say(3, "/tmp: nosuid", bool(seen.f_flag & os.ST_NOSUID), "flags %x" % seen.f_flag)
    say(
        3, "/tmp: nodev", bool(seen.f_flag & 4), "flags %x" % seen.f_flag
    )  # ST_NODEV, which Python has on Linux only
    size = expected["tmpfs_bytes"]
    if size + ROOM > expected["memory_bytes"]:
        observed = "%d bytes by statvfs" % (seen.f_blocks * seen.f_frsize)
        reason = "the memory limit would be reached first"
        say(3, "/tmp is full at its size", None, observed, reason)
    else:
        written = _fill("/tmp/orch-fill")
        say(
            3,
            "/tmp is full at its size",
            abs(written - size) <= 1 << 16,
            "%d of %d bytes written" % (written, size),
        )
    wanted = expected["tmpfs_inodes"]
    made = _fill_inodes(wanted)
    say(3, "/tmp is full at its number of files", wanted - 8 <= made <= wanted, "%d of %d made" % (made, wanted))


def _fill(path: str) -> int:
    written = 0
    block = bytes(CHUNK)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while written < 1 << 40:
            written += os.write(descriptor, block)
    except OSError:
        pass
    finally:
        os.close(descriptor)
        os.unlink(path)
    return written


def _fill_inodes(most: int) -> int:
    """Create up to `most` symbolic links, each of which takes an inode; return how many inodes were taken."""
    folder = "/tmp/orch-inodes"
    os.mkdir(folder)
    made = 1
    top = os.open(folder, os.O_RDONLY)
    try:
        while made <= most:
            os.symlink("x", str(made), dir_fd=top)
            made += 1
    except OSError:
        pass
    for number in range(1, made):
        os.unlink(str(number), dir_fd=top)
    os.close(top)
    os.rmdir(folder)
    return made


def tasks(expected: dict[str, Any]) -> None:
    """Start tasks beyond their limit (group 10). Threads count like processes, and cost less."""
    wanted = expected["pids"]
    read_back = cgroup_file("pids/pids.max", "pids.max")
    say(10, "the pids limit is the one asked for", read_back == str(wanted), str(read_back))
    threading.stack_size(64 << 10)
    end = threading.Event()
    started: list[threading.Thread] = []
    refused = ""
    try:
        while len(started) <= wanted:
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        refused = _fork()
    count = cgroup_file("pids/pids.current", "pids.current")
    end.set()
    for thread in started:
        thread.join()
    full = count is not None and int(count) >= wanted - 1
    say(
        10,
        "a fork past the pids limit is refused",
        refused == "EAGAIN" and full,
        "%s at %s tasks" % (refused, count),
    )
    control = in_child(lambda: "ok")
    say(10, "control: below it a fork works", control == "ok", control)


def _fork() -> str:
    try:
        pid = os.fork()
    except BlockingIOError:
        return "EAGAIN"
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "ok"


def memory(expected: dict[str, Any]) -> None:
    """Use memory beyond its limit, in a process that the kernel kills first (group 10)."""
    limit = expected["memory_bytes"]
    before = _kills()
    seen = in_child(lambda: _eat(limit))
    after = _kills()
    killed = seen == "ended by signal 9"
    counted = before is not None and after is not None and after > before
    observed = "%s, counted %s" % (seen, "unknown" if before is None or after is None else after - before)
    say(10, "memory past its limit is killed, and counted", killed and counted, observed)
    control = in_child(lambda: _eat(limit // 4))
    say(10, "control: a quarter of it can be had", control == "had", control)
    swap = cgroup_file("memory/memory.memsw.limit_in_bytes")
    more = cgroup_file("memory.swap.max")
    if swap is None and more is None:
        say(10, "no swap beyond the memory limit", None, "", "this kernel limits no swap")
    else:
        say(10, "no swap beyond the memory limit", more == "0" or swap == str(limit), "swap %s" % (more or swap))


def _eat(size: int) -> str:
    held = bytearray(size)
    for place in range(0, size, 4096):
        held[place] = 1
    return "had"


def _kills() -> int | None:
    text = cgroup_file("memory/memory.oom_control", "memory.events")
    for line in (text or "").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


def quota(expected: dict[str, Any]) -> None:
    """Check the CPU quota over ten of its periods, as the kernel counts them (group 10)."""
    wanted, period = expected["cpus"], 0.1
    if _cpu_stat() is None:
        say(10, "the CPU quota holds within 5 %", None, "", "the kernel's counters are not to be seen")
        return
    seen = _burn(int(wanted) + 1)
    if 0 < seen[2] < seen[0] / 2:  # other processes kept it below its quota: try again
        seen = _burn(int(wanted) + 1)
    periods, seconds, throttled = seen
    share = seconds / (periods * period) if periods else 0.0
    observed = "%.3f CPUs of %g, throttled in %d of %d periods" % (share, wanted, throttled, periods)
    if not periods:
        say(10, "the CPU quota holds within 5 %", False, "no quota is in force")
    elif throttled < periods / 2:
        say(10, "the CPU quota holds within 5 %", None, observed, "this machine is too busy to reach it")
    else:
        say(10, "the CPU quota holds within 5 %", share <= wanted * 1.05, observed)


def _burn(count: int) -> tuple[int, float, int]:
    """Run this number of CPU-bound processes for a second; return the increase of the figures of `_cpu_stat`."""
    children = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                pass
            os._exit(0)
        children.append(pid)
    time.sleep(0.15)
    periods, used, throttled = _cpu_stat() or (0, 0.0, 0)
    time.sleep(1)
    later, more, now_throttled = _cpu_stat() or (0, 0.0, 0)
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return later - periods, more - used, now_throttled - throttled


def _cpu_stat() -> tuple[int, float, int] | None:
    """Return (periods, CPU seconds, throttled periods) of the container's cgroup, None without a quota."""
    facts = dict(line.split() for line in (cgroup_file("cpu/cpu.stat", "cpu.stat") or "").splitlines())
    usage = cgroup_file("cpuacct/cpuacct.usage")
    seconds = int(usage) / 1e9 if usage else int(facts.get("usage_usec", 0)) / 1e6
    if "nr_periods" not in facts:
        return None
    return int(facts["nr_periods"]), seconds, int(facts["nr_throttled"])
