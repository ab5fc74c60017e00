"""Files that orch writes for itself and for others: the user's cache folder, and files that appear whole or not at
all.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import RawIOBase


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a disk, or a user's share of it, that is full."""


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/orch`, or `~/.cache/orch`; it may not be there. RuntimeError: the user has no home."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
    return Path(home) / "orch"


def spare_folders(name: str) -> tuple[Path, ...]:
    """Where else this user may keep things when a disk is full, best first; they may not be there. For use through
    `private_folder`.
    """
    places = [Path(tempfile.gettempdir()) / f"orch-{os.geteuid()}"]
    with suppress(RuntimeError):
        places.insert(0, cache_folder() / "full-disk")
    return tuple(place / name for place in places)


def free_bytes(folder: Path) -> int:
    """What this user may still write below the folder; 0: none, or it cannot be told."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def private_folder(folder: Path) -> Path:
    """Make a folder that is this user's alone. OSError: it is somebody else's, or others may write to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "not this user's alone", str(folder))
    return folder


def replace_file(path: Path, content: bytes | Iterable[bytes], *, mode: int | None = None) -> None:
    """Write beside `path`, then rename: a reader never sees half a file, a failed write keeps the old one. A
    device or a pipe is written to and stays.

    `content` in one piece or in many; `mode`: the permissions, None: those that the umask allows. Raises OSError.
    """
    pieces = [content] if isinstance(content, bytes) else content
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as stream:
            stream.writelines(pieces)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(pieces)
            os.fchmod(stream.fileno(), 0o666 & ~_umask() if mode is None else mode)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    # Reading the umask by setting it would race with other threads that create files.
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o077


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write beside `path`, then rename: a reader never sees half a report, a failed write keeps the old one.

    `content` in one piece or in many. Folders are made as needed. The file gets the permissions that the umask
    allows: a CI agent of another user may have to read it. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)


class SpooledText:
    """Text of a report that is made while its run goes on, and waits for what will stand in front of it: in a file
    without a name, which nobody has to remove whatever ends the run. When its disk is full it moves to the one of
    temporary files.
    """

    def __init__(self, folder: Path) -> None:
        """The file is in `folder`, on its disk, or, where that is full, elsewhere. Raises OSError."""
        self._size = 0
        try:
            self._file = _unnamed(folder)
        except OSError:
            self._file = _unnamed(None)
        self._close = weakref.finalize(self, self._file.close)

    def add(self, text: str) -> None:
        """Put it behind what is there. Raises OSError."""
        data = text.encode()
        try:
            write_all(self._file, data)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._move()
            write_all(self._file, data)
        self._size += len(data)

    def _move(self) -> None:
        other = _unnamed(None)
        try:
            self._file.seek(0)
            copy_bytes(self._file, other, self._size)
        except BaseException:
            other.close()
            raise
        self._close()
        self._file = other
        self._close = weakref.finalize(self, other.close)

    def read(self) -> Iterator[bytes]:
        """All of it, as UTF-8. Raises OSError."""
        self._file.seek(0)
        left = self._size
        while left and (piece := self._file.read(min(_PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
        self._file.seek(self._size)


def _unnamed(folder: Path | None) -> RawIOBase:
    # nothing is buffered: what an error leaves behind is known
    return cast("RawIOBase", tempfile.TemporaryFile(dir=folder, buffering=0))


def write_all(file: RawIOBase, data: bytes) -> None:
    """Write to a file without a buffer. OSError: it may have a part of it."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def copy_bytes(source: RawIOBase, target: RawIOBase, size: int) -> None:
    """Copy so many bytes from where `source` stands. Raises OSError."""
    while size and (piece := source.read(min(_PIECE_BYTES, size))):
        write_all(target, piece)
        size -= len(piece)


_PIECE_BYTES = 1 << 18
