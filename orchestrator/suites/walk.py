"""Walks a project's folders: quick, deterministic, and never outside the root.

A link to a folder inside the root is followed, but no link inside it is (two could name each other without
end), and never one to a folder that it lies in. A link that leads outside the root is left alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRUNED = frozenset({".git", ".hg", ".svn", ".orch", "node_modules", ".venv", ".tox", ".nox", "__pycache__"})


def inside(path: str, folder: str) -> bool:
    """`path` is `folder` or lies below it; both absolute and without links."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def files_below(root: str, relative: str, notice: Callable[[str], None]) -> Iterator[str]:
    """Paths, relative to `root`, of the regular files below the folder `relative` ("." for the root).

    `root` is absolute and without links. `notice` gets one sentence for what could not be read.
    """
    stack = [("" if relative == "." else f"{relative}/", False)]
    while stack:
        prefix, through_link = stack.pop()
        try:
            with os.scandir(f"{root}/{prefix}") as entries:
                for entry in entries:
                    kind = _kind(entry, root, through_link=through_link)
                    if kind == "file":
                        yield prefix + entry.name
                    elif kind == "folder" and entry.name not in PRUNED:
                        stack.append((f"{prefix}{entry.name}/", through_link or entry.is_symlink()))
        except OSError as error:
            notice(f"folder {prefix or '.'!r} cannot be read: {error.strerror}")


def _kind(entry: os.DirEntry[str], root: str, *, through_link: bool) -> str | None:
    if entry.is_file(follow_symlinks=False):
        return "file"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    if not entry.is_symlink():
        return None  # a FIFO, a socket, a device
    target = os.path.realpath(entry.path)
    if not inside(target, root):
        return None
    if os.path.isfile(target):  # noqa: PTH113 - no Path objects in the walk: 10,000 files in under a second
        return "file"
    around = os.path.realpath(os.path.dirname(entry.path))  # noqa: PTH120 - as above
    may_follow = os.path.isdir(target) and not through_link and not inside(around, target)  # noqa: PTH112
    return "folder" if may_follow else None
