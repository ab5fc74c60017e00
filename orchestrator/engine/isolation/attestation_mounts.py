"""Compares a container's mounts, as the kernel lists them, with those requested. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engine.docker.messages import podman_tmpfs
from orchestrator.engine.isolation.kernel_view import host_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from orchestrator.engine.base import ContainerSpec, Mount
    from orchestrator.engine.isolation.kernel_view import KernelMount, KernelView
    from orchestrator.model.runs import EngineInfo

DEVICES = frozenset(
    "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()  # noqa: SIM905 - one line
)
"""The names of the entries of /dev in every container; `core` is a link to /proc/kcore, which is masked."""
_ENGINES_OWN = {
    "/proc": "proc",
    "/dev": "tmpfs",
    "/dev/pts": "devpts",
    "/dev/mqueue": "mqueue",
}
_SHM = "/dev/shm"  # noqa: S108 - inside the container
_UNLISTED = {"mode": "1777", "uid": "0", "gid": "0"}
"""The tmpfs options that the kernel lists only if they differ from these values."""
_ENGINES_FILES = frozenset(
    ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv", "/run/secrets")
)
_FLAGS = ("nosuid", "nodev", "noexec")
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
LARGEST_PAGE_BYTES = 1 << 16


def mounts_differ(asked: ContainerSpec, view: KernelView, info: EngineInfo) -> Iterator[str]:
    """Yield a sentence for each mount that differs from the requested one, is missing, or was not requested."""
    if view.mounts is None:
        return
    binds = {mount.target: mount for mount in asked.mounts}
    last = {mount.target: mount for mount in view.mounts}
    yield from _of_all(view.mounts, last, binds.keys() | asked.tmpfs.keys(), binds.keys())
    for target, mount in last.items():
        if target in asked.tmpfs:
            options = asked.tmpfs[target]
            yield from _tmpfs_differs(mount, podman_tmpfs(options) if info.name == "podman" else options)
        elif target in binds:
            yield from _bind_differs(mount, binds[target], view)
        else:
            yield from _engines_differs(mount, asked, info)
    for target in sorted((binds.keys() | asked.tmpfs.keys()) - last.keys()):
        yield f"a mount at {target} asked, none in the kernel"
    for path in view.maskable:
        if path not in last:
            yield f"{path} asked to be closed, open in the kernel"


def _of_all(
    mounts: Iterable[KernelMount],
    last: Mapping[str, KernelMount],
    asked: AbstractSet[str],
    binds: AbstractSet[str],
) -> Iterator[str]:
    for mount in mounts:
        if mount.shared:
            yield f"mounts made below {mount.target} appear elsewhere too (shared propagation in the kernel)"
        # The folder of results inside the project may be a file system of its own, which orch's tmpfs covers.
        below = any(mount.target.startswith(f"{target}/") for target in binds)
        if last[mount.target] is not mount and mount.target in asked and not below:
            yield f"{mount.target} is covered by another mount in the kernel"


def _bind_differs(mount: KernelMount, asked: Mount, view: KernelView) -> Iterator[str]:
    if asked.read_only and not mount.read_only:
        yield f"{mount.target}: read-only asked, writable in the kernel"
    places = host_paths(mount, view.host_mounts)
    if places and asked.source.rstrip("/") not in places:
        yield f"{mount.target}: {asked.source} asked, {min(places)} in the kernel"


def _tmpfs_differs(mount: KernelMount, options: str) -> Iterator[str]:
    words = options.split(",")
    if mount.kind != "tmpfs":
        yield f"{mount.target}: a tmpfs asked, {mount.kind} in the kernel"
        return
    for flag in (*_FLAGS, "ro"):
        if flag in words and flag not in mount.options:
            yield f"{mount.target}: {flag} asked, not so in the kernel"
    if "exec" in words and "noexec" in mount.options:
        yield f"{mount.target}: exec asked, noexec in the kernel"
    for name, value in (word.split("=", 1) for word in words if "=" in word):
        found = mount.setting(name) or _UNLISTED.get(name, "no limit")
        if not _same(name, value, found):
            yield f"{mount.target}: {name} {value} asked, {found} in the kernel"


def _same(name: str, asked: str, found: str) -> bool:
    if name not in ("size", "nr_inodes"):
        return asked == found
    return _as_large(found, asked, page=LARGEST_PAGE_BYTES if name == "size" else 1)


def _engines_differs(mount: KernelMount, asked: ContainerSpec, info: EngineInfo) -> Iterator[str]:
    """Yield the mismatch of a mount that was not requested, unless it is one that engines make by themselves."""
    target, open_to_writing = mount.target, not mount.read_only
    if target == "/":
        if asked.read_only_root and open_to_writing:
            yield "read-only root asked, writable in the kernel"
    elif target == _SHM and mount.kind == "tmpfs":
        yield from _tmpfs_differs(mount, f"nosuid,nodev,noexec,size={asked.shm_bytes}")
    elif _ENGINES_OWN.get(target) == mount.kind:
        return
    elif target.startswith(("/sys", "/proc/")):
        if open_to_writing and not _is_closed(mount):
            yield f"{target} is writable in the kernel"
    elif any(target.startswith(f"{bind.target}/") for bind in asked.mounts):
        if open_to_writing:
            yield f"{target} is a file system of its own below a folder that is read-only to tests: it is writable"
    elif target not in asked.volumes and not _is_engines_file(mount, info):
        yield f"nobody asked for what is mounted at {target}: {mount.kind} {mount.root} in the kernel"


def _is_closed(mount: KernelMount) -> bool:
    """Return whether the mount is the null device, or the tmpfs of cgroup v1, which only root can write."""
    return mount.root == "/null" or (mount.target == "/sys/fs/cgroup" and mount.kind == "tmpfs")


def _is_engines_file(mount: KernelMount, info: EngineInfo) -> bool:
    """Return whether the mount is a device of every container, or an engine's file such as /etc/hosts."""
    device = mount.target.removeprefix("/dev/")
    if device in DEVICES and mount.root == f"/{device}":
        return True
    return mount.target in _ENGINES_FILES and (mount.read_only or info.name != "docker")


def _as_large(found: str | None, asked: str, *, page: int) -> bool:
    """Return whether the kernel's number is the requested one, rounded up to whole pages."""
    wanted, has = _number(asked), _number(found)
    return wanted is not None and has is not None and 0 <= has - wanted < page


def _number(word: str | None) -> int | None:
    """Parse a size as the kernel and the engines write it, such as `64k`; None if it is no number."""
    if not word:
        return None
    digits, unit = (word[:-1], _UNITS[word[-1]]) if word[-1] in _UNITS else (word, 1)
    return int(digits) * unit if digits.isdigit() else None
