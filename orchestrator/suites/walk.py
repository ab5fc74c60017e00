"""Walk a project's folders: fast, in a fixed order, and never outside the root.

A link to a folder inside the root is followed, but not links inside that folder (two could refer to each other
without end), and never a link to a folder that contains it. A link that leads outside the root is not followed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.model.suites import LeftOutReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRUNED = frozenset({".git", ".hg", ".svn", ".orch", "node_modules", ".venv", ".tox", ".nox", "__pycache__"})
MOST_LOOKED_AT = 2_000
"""The number of entries that are examined behind a link that is not followed: it may lead to a whole disk."""


def inside(path: str, folder: str) -> bool:
    """Return whether `path` is `folder` or lies below it; both must be absolute and without links."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def files_below(root: str, relative: str, missed: Callable[[str, LeftOutReason], None]) -> Iterator[str]:
    """Yield the paths, relative to `root`, of the regular files below the folder `relative` ("." for the root).

    `root` is absolute and without links. `missed` is called for each link that is not followed, unless its target
    is found under its own name, and for each folder that cannot be read.
    """
    base = os.path.realpath(f"{root}/{relative}")
    stack = [("" if relative == "." else f"{relative}/", False)]
    while stack:
        prefix, through_link = stack.pop()
        try:
            with os.scandir(f"{root}/{prefix}") as entries:
                for entry in entries:
                    kind = _kind(entry, root, base, through_link=through_link)
                    if kind == "file":
                        yield prefix + entry.name
                    elif kind == "folder" and entry.name not in PRUNED:
                        stack.append((f"{prefix}{entry.name}/", through_link or entry.is_symlink()))
                    elif isinstance(kind, LeftOutReason):
                        missed(prefix + entry.name, kind)
        except OSError:
            missed(prefix or ".", LeftOutReason.UNREADABLE)


def files_behind(link: str) -> Iterator[str | None]:
    """Yield the names, relative to `link`, of the files behind a link that is not followed; "" if it leads to a
    file or nowhere; None at the end if there are more than `MOST_LOOKED_AT`.
    """
    if not os.path.isdir(link):  # noqa: PTH112 - text all the way, for speed
        yield ""
        return
    looked_at = 0
    for folder, folders, names in os.walk(link):
        folders[:] = [name for name in folders if name not in PRUNED]
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), link)  # noqa: PTH118 - as above
        looked_at += len(folders) + len(names)
        if looked_at > MOST_LOOKED_AT:
            yield None
            return


def _kind(entry: os.DirEntry[str], root: str, base: str, *, through_link: bool) -> str | LeftOutReason | None:
    if entry.is_file(follow_symlinks=False):
        return "file"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    # FIFOs, sockets and devices are ignored
    return _kind_of_link(entry, root, base, through_link=through_link) if entry.is_symlink() else None


def _kind_of_link(
    entry: os.DirEntry[str], root: str, base: str, *, through_link: bool
) -> str | LeftOutReason | None:
    target = os.path.realpath(entry.path)
    if not inside(target, root):
        return LeftOutReason.OUTSIDE
    if os.path.isfile(target):  # noqa: PTH113 - no Path objects in the walk: 10,000 files in under a second
        return "file"
    if not os.path.isdir(target):  # noqa: PTH112 - as above
        return None
    around = os.path.realpath(os.path.dirname(entry.path))  # noqa: PTH120 - as above
    if not through_link and not inside(around, target):
        return "folder"
    return None if inside(target, base) else LeftOutReason.BEHIND_LINKS
