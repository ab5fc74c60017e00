"""Reads the mounts, limits, ids and namespaces of a container's process 1 from /proc.

They are read from this machine once per container, while its agent waits, if the process is visible from here.
Else the agent reads what it can (agent.sh); its shell needs one system call for each of the 5,000 bytes of the
mount table.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
)
"""The paths that every engine masks; newer engines mask more."""
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
CLOSED = (*MASKED, *READ_ONLY)
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMount:
    """One mount: a line of /proc/PID/mountinfo."""

    device: str
    """The file system's device as `major:minor`."""
    root: str
    """The folder of the file system that is mounted."""
    target: str
    options: frozenset[str]
    """The options of the mount, such as ro and nosuid."""
    shared: bool
    """True if later mounts below this one also appear in other places (shared propagation)."""
    kind: str
    """The type of the file system."""
    settings: frozenset[str]
    """The options of the file system, such as `size=64k`."""

    @property
    def read_only(self) -> bool:
        """True if the mount or its file system is read-only."""
        return "ro" in self.options or "ro" in self.settings

    def setting(self, name: str) -> str | None:
        """Return the value of the file system's option `name=value`, None if it is not set."""
        return next((s.partition("=")[2] for s in self.settings if s.startswith(f"{name}=")), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelView:
    """The facts about a container's process 1; None for those that could not be read."""

    mounts: tuple[KernelMount, ...] | None = None
    nofile: tuple[int, int] | None = None
    """The soft and hard limit of open files; -1 means no limit."""
    core: tuple[int, int] | None = None
    uids: tuple[int, ...] | None = None
    gids: tuple[int, ...] | None = None
    """The real, effective, saved and file-system group ids, then the supplementary groups."""
    pids: tuple[int, ...] | None = None
    """The pids of the process in each of its pid namespaces, starting with this machine's."""
    oom_score_adj: int | None = None
    shared_namespaces: tuple[str, ...] | None = None
    """The namespaces shared with this process or with this machine; None if this user may not read them."""
    maskable: tuple[str, ...] = ()
    """The paths of `CLOSED` that exist on this kernel."""
    host_mounts: tuple[KernelMount, ...] = ()
    """The mounts of this machine, from which the host path of a mounted folder is determined."""

    @property
    def is_first(self) -> bool:
        """True if this is process 1 of a pid namespace, and not a helper of the engine in the same cgroup."""
        return self.pids is None or self.pids[-1] == 1 or len(self.pids) == 1


def read_process(pid: int, proc: Path = _PROC) -> KernelView | None:
    """Read the facts about a process of this machine; None if it has ended."""
    folder = proc / str(pid)
    status = _read(folder / "status")
    if status is None:
        return None
    facts = dict(line.partition(":")[::2] for line in status.splitlines())
    mounts = _read(folder / "mountinfo")
    limits = (_read(folder / "limits") or "").splitlines()
    score = _read(folder / "oom_score_adj")
    return KernelView(
        mounts=None if mounts is None else tuple(parse_mounts(mounts)),
        nofile=parse_limit(limits, "Max open files"),
        core=parse_limit(limits, "Max core file size"),
        uids=_numbers(facts.get("Uid")),
        gids=_numbers(f"{facts.get('Gid', '')} {facts.get('Groups', '')}"),
        pids=_numbers(facts.get("NSpid")),
        oom_score_adj=next(iter(_numbers(score) or ()), None),
        shared_namespaces=_shared(folder, proc),
        maskable=_maskable(),
        host_mounts=_parsed(_read(proc / "self" / "mountinfo") or ""),
    )


@cache
def _maskable() -> tuple[str, ...]:
    return tuple(path for path in CLOSED if Path(path).exists())


@lru_cache(maxsize=2)
def _parsed(mountinfo: str) -> tuple[KernelMount, ...]:
    """Parse this machine's mounts, whose text is the same for almost every container."""
    return tuple(parse_mounts(mountinfo))


def parse_agent_view(begin: str) -> KernelView:
    """Parse the lines `mount …` and `limit …` of the agent's `begin` section."""
    mounts: list[str] = []
    limits: list[str] = []
    for line in begin.split("\n"):
        if line.startswith("@"):
            break
        key, _, value = line.partition(" ")
        if key == "mount":
            mounts.append(value)
        elif key == "limit":
            limits.append(value)
    return KernelView(
        mounts=tuple(parse_mounts("\n".join(mounts))) or None,
        nofile=parse_limit(limits, "Max open files"),
        core=parse_limit(limits, "Max core file size"),
    )


def parse_mounts(text: str) -> Iterator[KernelMount]:
    """Parse the text of a mountinfo file; lines of another form are skipped."""
    for line in text.split("\n"):
        before, dash, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if dash and len(words) >= 6 and len(rest) >= 3:
            yield KernelMount(
                device=words[2],
                root=_plain(words[3]),
                target=_plain(words[4]),
                options=frozenset(words[5].split(",")),
                shared=any(word.startswith("shared:") for word in words[6:]),
                kind=rest[0],
                settings=frozenset(rest[2].split(",")),
            )


def host_paths(mount: KernelMount, host_mounts: tuple[KernelMount, ...]) -> set[str]:
    """Return the paths at which this machine, with the mounts `host_mounts`, has the folder that `mount` shows."""
    found = set()
    for own in host_mounts:
        if own.device != mount.device:
            continue
        top = own.root.rstrip("/")
        if mount.root == own.root or mount.root.startswith(f"{top}/"):
            found.add(f"{own.target.rstrip('/')}{mount.root[len(top) :].rstrip('/')}" or "/")
    return found


def parse_limit(lines: list[str], name: str) -> tuple[int, int] | None:
    """Return (soft, hard) of the limit `name` of /proc/PID/limits, -1 for unlimited; None if it is missing."""
    for line in lines:
        if line.startswith(name):
            words = line[len(name) :].split()
            if len(words) >= 2:
                soft, hard = (-1 if w == "unlimited" else int(w) if w.isdigit() else None for w in words[:2])
                return None if soft is None or hard is None else (soft, hard)
    return None


def _plain(word: str) -> str:
    """Decode the octal escapes that the kernel writes for blanks and backslashes of a path."""
    if "\\" not in word:
        return word
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(code, sign)
    return word


def _numbers(text: str | None) -> tuple[int, ...] | None:
    words = (text or "").split()
    return tuple(int(word) for word in words) if words and all(w.lstrip("-").isdigit() for w in words) else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def _shared(folder: Path, proc: Path) -> tuple[str, ...] | None:
    """Return the namespaces shared with this machine; None if this user may not trace the process."""
    try:
        return tuple(name for name in NAMESPACES if _namespace(folder, name) in _ours(proc, name))
    except OSError:
        return None


@cache
def _ours(proc: Path, name: str) -> frozenset[Path]:
    """Return the namespaces of this process and of this machine's process 1."""
    found = {_namespace(proc / "self", name)}
    with suppress(OSError):
        found.add(_namespace(proc / "1", name))
    return frozenset(found)


def _namespace(folder: Path, name: str) -> Path:
    return (folder / "ns" / name).readlink()
