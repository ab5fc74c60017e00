"""Checks groups 1 to 6, 8, 11 to 13, 15 and 17: identity, files, mounts, devices, environment."""

from __future__ import annotations

import os
import resource
import stat
import time
from functools import partial
from typing import Any

from orchestrator.engine.self_test.probes.common import answer, cgroup_file, in_child, mounts, opened, say, status

USER = 1001
DEVICES = {
    "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
    "urandom", "zero",
}  # fmt: skip
VIRTUAL = ("cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "proc", "sysfs", "tmpfs")
CLOSED_FILES = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug")
NULL_DEVICE = os.makedev(1, 3)


def create(path: str) -> str:
    """Make an empty file and remove it."""

    def call() -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)

    return answer(call)


def identity(expected: dict[str, Any]) -> None:
    """Check user, groups, capabilities and the seccomp filter (group 1)."""
    ids = {*os.getresuid(), *os.getresgid(), *os.getgroups()}
    say(1, "user and groups are 1001, all of them", ids == {USER}, "ids %s" % sorted(ids))
    facts = status()
    sets = {name: int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    beyond = [name for name, bits in sets.items() if bits & ~expected["capabilities"]]
    exact = sets["CapBnd"] == expected["capabilities"] and not sets["CapEff"]
    observed = ", ".join("%s %x" % pair for pair in sorted(sets.items()))
    say(1, "no capability but those given back", exact and not beyond, observed)
    seccomp = facts.get("Seccomp")
    say(1, "a seccomp filter is in force", seccomp == "2", "Seccomp %s" % seccomp)


def _writable() -> set[str]:
    found = set()
    for place, _, _kind in mounts():
        if os.path.isdir(place) and create(place.rstrip("/") + "/orch-self-test") == "ok":
            found.add(place)
    return found


def places(expected: dict[str, Any]) -> None:
    """Check which folders can be written (group 2)."""
    for name, path in (("the root", "/"), ("the project", expected["project"])):
        seen = create(os.path.join(path, "orch-self-test"))
        say(2, "no file can be made in %s" % name, seen == "EROFS", seen)
    own = next((p for p in ("/home/testuser", "/home/user", "/var/cache", "/opt") if _is_own(p)), None)
    if own is None:
        say(2, "no file can be made in a folder of the image that is 1001's", None, "", "the image has none")
    else:
        seen = create(own + "/orch-self-test")
        say(2, "no file can be made in a folder of the image that is 1001's", seen == "EROFS", own + ": " + seen)
    writable = _writable()
    allowed = set(expected["writable"])
    # a file made in the writable ones is the control; /dev/mqueue holds message queues
    say(2, "what can be written is what is meant to be", writable == allowed, ", ".join(sorted(writable)))
    more = [place for place, _, kind in mounts() if kind not in VIRTUAL and place not in expected["mounts"]]
    say(2, "no folder of this machine and no volume but those meant", not more, ", ".join(more) or "none")
    shared = [place for place, words, _ in mounts() if any(word.startswith("shared:") for word in words)]
    say(2, "no mount appears elsewhere", not shared, ", ".join(shared) or "no shared propagation")
    if expected["hidden"]:
        held = os.listdir(expected["hidden"])
        say(2, "orch's own folder is hidden", not held, "%d entries in %s" % (len(held), expected["hidden"]))
    else:
        say(2, "orch's own folder is hidden", None, "", "there is none in the project")


def _is_own(path: str) -> bool:
    try:
        return os.stat(path).st_uid == USER
    except OSError:
        return False


def closed() -> None:
    """Check that the paths that engines mask cannot be read (group 5)."""
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger"):
        seen = answer(opened(path, os.O_WRONLY))
        say(5, "%s cannot be written" % path, seen in ("EROFS", "EACCES", "ENOENT"), seen)
    control = answer(opened("/proc/sys/kernel/osrelease", os.O_RDONLY))
    say(5, "control: /proc/sys/kernel/osrelease can be read", control == "ok", control)
    for path in CLOSED_FILES:
        try:
            seen_stat = os.stat(path)
        except OSError:
            say(5, "%s is masked" % path, None, "", "this kernel has none")
            continue
        null = stat.S_ISCHR(seen_stat.st_mode) and seen_stat.st_rdev == NULL_DEVICE
        say(5, "%s is masked" % path, null, "the null device" if null else "the kernel's file")
    try:
        held = os.listdir("/sys/firmware")
    except OSError as error:
        say(5, "/sys/firmware is masked", None, str(error), "this kernel has none")
    else:
        say(5, "/sys/firmware is masked", not held, "%d entries" % len(held))


def devices() -> None:
    """Check the devices in /dev (group 6)."""
    more = set(os.listdir("/dev")) - DEVICES
    say(6, "/dev holds the expected names only", not more, ", ".join(sorted(more)) or "nothing more")
    seen = answer(lambda: os.mknod("/tmp/orch-block", stat.S_IFBLK | 0o600, os.makedev(7, 0)))
    say(6, "no block device can be made", seen == "EPERM", seen)
    control = answer(lambda: os.mkfifo("/tmp/orch-fifo"))
    if control == "ok":
        os.unlink("/tmp/orch-fifo")
    say(6, "control: a FIFO can be made", control == "ok", control)


def environment(expected: dict[str, Any]) -> None:
    """Check for sockets of the host, environment variables and names (group 8)."""
    sockets = []
    for top in ("/run", "/var/run", "/tmp", "/work"):
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in (".git", "node_modules", ".venv")]
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if stat.S_ISSOCK(os.lstat(path).st_mode):
                        sockets.append(path)
                except OSError:
                    continue
            if folder.count("/") > 3:
                folders.clear()
    say(8, "no socket of the engine or of this machine", not sockets, ", ".join(sockets) or "none found")
    more = sorted(set(os.environ) - set(expected["variables"]) - {"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"})
    missing = sorted(set(expected["needed"]) - set(os.environ))
    observed = "%d variables" % len(os.environ)
    if more or missing:
        observed = "more: %s; missing: %s" % (", ".join(more) or "none", ", ".join(missing) or "none")
    say(8, "the environment is the allowed list", not more and not missing, observed)


def cgroups() -> None:
    """Check that cgroup files cannot be written (group 11)."""
    found = [place for place, _, kind in mounts() if kind in ("cgroup", "cgroup2")]
    for place in found[:1] + [p for p in found[1:] if p.endswith("memory")]:
        procs = answer(opened(place + "/cgroup.procs", os.O_WRONLY))
        made = answer(partial(os.mkdir, place + "/orch-self-test"))
        say(11, "%s cannot be changed" % place, {procs, made} <= {"EROFS", "EACCES", "EPERM"}, procs + ", " + made)
    if not found:
        say(11, "the container's cgroup cannot be changed", None, "", "no cgroup file system is mounted")
    else:
        control = cgroup_file("memory/memory.limit_in_bytes", "memory.max")
        say(11, "control: its memory limit can be read", control is not None, str(control))
    with open("/proc/self/cgroup") as file:
        paths = {line.rstrip("\n").split(":", 2)[2] for line in file}
    say(11, "the host's cgroups are not named", paths == {"/"}, ", ".join(sorted(paths)))


def processes() -> None:
    """Check which processes are visible (group 12)."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    threads = [pid for pid in pids if not _cmdline(pid) and pid != os.getpid()]
    say(12, "no process of the host is visible", len(pids) < 20 and not threads, "%d processes" % len(pids))
    orphan = int(in_child(_leave_orphan))
    deadline = time.monotonic() + 1
    while os.path.exists("/proc/%d" % orphan) and time.monotonic() < deadline:
        time.sleep(0.02)
    gone = not os.path.exists("/proc/%d" % orphan)
    say(12, "an orphan is reaped within a second", gone, "pid %d %s" % (orphan, "gone" if gone else "still there"))


def _cmdline(pid: int) -> bytes:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read()
    except OSError:
        return b"gone"


def _leave_orphan() -> str:
    pid = os.fork()
    if pid == 0:
        time.sleep(0.05)
        os._exit(0)
    return str(pid)


def descriptors(expected: dict[str, Any]) -> None:
    """Check that no descriptor is inherited (group 13)."""
    held = {int(name) for name in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + name)}
    say(13, "descriptors 0 to 2 only", held <= {0, 1, 2}, ", ".join(map(str, sorted(held))))
    inside = os.getcwd()
    say(13, "the working folder is inside the root", inside.startswith(expected["project"]), inside)


def process_limits(expected: dict[str, Any]) -> None:
    """Check the limits of the process (group 15)."""
    say(15, "standard input is no terminal", not os.isatty(0), os.readlink("/proc/self/fd/0"))
    seen = answer(_lower_score)
    say(15, "the memory killer's score cannot be lowered", seen in ("EACCES", "EPERM"), seen)
    control = answer(_raise_score)
    say(15, "control: it can be raised", control == "ok", control)
    core = resource.getrlimit(resource.RLIMIT_CORE)
    say(15, "no core dump is written", core == (0, 0), "limits %d, %d" % core)
    count = _fill_descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    proven = limits == (expected["nofile"],) * 2 and count == expected["nofile"]
    say(15, "open files end at their limit", proven, "%d open, limits %d, %d" % (count, limits[0], limits[1]))


def _lower_score() -> None:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1")


def _raise_score() -> None:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _fill_descriptors() -> int:
    """Return how many descriptors this process can open."""
    more: list[int] = []
    try:
        while len(more) < 1 << 20:
            more.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return more[-1] + 1
    finally:
        for descriptor in more:
            os.close(descriptor)
    return -1


def is_container(expected: dict[str, Any]) -> None:
    """Check that the probes run in a container (group 17)."""
    name = os.uname().nodename
    say(17, "the host name is the container's", name == expected["hostname"], name)
    there = os.path.exists(expected["host_file"])
    say(
        17,
        "a file of the host is not there",
        not there,
        "%s %s" % (expected["host_file"], "is" if there else "is not"),
    )
    root = os.stat("/")
    say(
        17,
        "the root is not the host's",
        [root.st_dev, root.st_ino] != expected["host_root"],
        "device %d" % root.st_dev,
    )
