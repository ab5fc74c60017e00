"""What the kernel says of a container's process 1: its mounts, limits, ids and namespaces, in /proc.

Read from this machine where its process can be seen from here, once a container, while its agent waits; else the
agent reads what it can by itself (agent.sh), where its mounts take a system call for each of their 5,000 bytes.
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
"""What every engine closes at the least; newer ones close more."""
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
CLOSED = (*MASKED, *READ_ONLY)
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelMount:
    """A line of mountinfo."""

    device: str
    """`major:minor` of its file system."""
    root: str
    """Folder of that file system which is mounted."""
    target: str
    options: frozenset[str]
    """Of the mount: ro, nosuid, …"""
    shared: bool
    """Mounts made below it appear elsewhere."""
    kind: str
    """Type of the file system."""
    settings: frozenset[str]
    """Of the file system: size=…, …"""

    @property
    def read_only(self) -> bool:
        """Nothing can be written through it."""
        return "ro" in self.options or "ro" in self.settings

    def setting(self, name: str) -> str | None:
        """Value of a setting `name=value`; None: it is not there."""
        return next((s.partition("=")[2] for s in self.settings if s.startswith(f"{name}=")), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelView:
    """Of one process 1; None: it cannot be read."""

    mounts: tuple[KernelMount, ...] | None = None
    nofile: tuple[int, int] | None = None
    """Soft and hard limit; -1: none."""
    core: tuple[int, int] | None = None
    uids: tuple[int, ...] | None = None
    gids: tuple[int, ...] | None = None
    """Real, effective, saved, of the file system; then the supplementary groups."""
    pids: tuple[int, ...] | None = None
    """Its numbers, one in each namespace of processes that it is in, this machine's first."""
    oom_score_adj: int | None = None
    shared_namespaces: tuple[str, ...] | None = None
    """Those that it has in common with this process; None: this user may not see them."""
    maskable: tuple[str, ...] = ()
    """Those of the paths to be closed in every container that this kernel has."""
    host_mounts: tuple[KernelMount, ...] = ()
    """Mounts of this machine, by which a mounted folder's name is found."""

    @property
    def is_first(self) -> bool:
        """It is process 1 of a namespace of processes, and no helper of the engine that is in the same cgroup."""
        return self.pids is None or self.pids[-1] == 1 or len(self.pids) == 1


def read_process(pid: int, proc: Path = _PROC) -> KernelView | None:
    """Of a process of this machine; None: it has ended."""
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
    """Of this machine: the same text at almost every container."""
    return tuple(parse_mounts(mountinfo))


def parse_agent_view(begin: str) -> KernelView:
    """From the lines `mount …` and `limit …` of the agent's section before its first test."""
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
    """From the text of mountinfo; lines of another form are passed over."""
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
    """(soft, hard) of a line of /proc/PID/limits, -1 for none."""
    for line in lines:
        if line.startswith(name):
            words = line[len(name) :].split()
            if len(words) >= 2:
                soft, hard = (-1 if w == "unlimited" else int(w) if w.isdigit() else None for w in words[:2])
                return None if soft is None or hard is None else (soft, hard)
    return None


def _plain(word: str) -> str:
    """The kernel writes blanks and backslashes of a path as octal numbers."""
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
    """Only who may trace a process may see its namespaces: root."""
    try:
        return tuple(name for name in NAMESPACES if _namespace(folder, name) in _ours(proc, name))
    except OSError:
        return None


@cache
def _ours(proc: Path, name: str) -> frozenset[Path]:
    """Namespaces of this process and of the machine's first one."""
    found = {_namespace(proc / "self", name)}
    with suppress(OSError):
        found.add(_namespace(proc / "1", name))
    return frozenset(found)


def _namespace(folder: Path, name: str) -> Path:
    return (folder / "ns" / name).readlink()
