"""Paths and writing of files: the user's cache folder, private folders, atomic replacement, and unnamed files."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import RawIOBase


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of the errors that mean a full disk or an exceeded quota."""


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/orch` or `~/.cache/orch`, which need not exist. Raises RuntimeError if the user has
    no home.
    """
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
    return Path(home) / "orch"


def spare_folders(name: str) -> tuple[Path, ...]:
    """Return folders called `name` that this user can write to when the disk of the project is full, best first.
    They need not exist; use them through `private_folder`.
    """
    places = [Path(tempfile.gettempdir()) / f"orch-{os.geteuid()}"]
    with suppress(RuntimeError):
        places.insert(0, cache_folder() / "full-disk")
    return tuple(place / name for place in places)


def free_bytes(folder: Path) -> int:
    """Return the number of bytes that this user can still write below `folder`; 0 if that is not known."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def private_folder(folder: Path) -> Path:
    """Create a folder that only this user can write to, and return it. Raises OSError if it exists and belongs to
    another user, or if others can write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "owned or writable by others", str(folder))
    return folder


def replace_file(path: Path, content: bytes | Iterable[bytes], *, mode: int | None = None) -> None:
    """Replace a file atomically: write a temporary file beside `path`, then rename it. After a failed write the
    old file is unchanged. A device or pipe is not replaced but written to.

    `content`: all bytes, or pieces of them; `mode`: the permissions, by default those that the umask allows.
    Raises OSError.
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
    # os.umask() reads the mask only by setting it, which would race with other threads that create files.
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o077


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file as `replace_file` does, and create its folder if it is missing. The permissions are those
    that the umask allows, because a CI agent of another user may have to read the file. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)


class SpooledText:
    """Text of a report that is written during a run and read back at its end, because the head of the report is
    not known earlier. The text is in an unnamed file, which the kernel removes even if orch is killed. If the disk
    is full, the text is moved to the disk of temporary files.
    """

    def __init__(self, folder: Path) -> None:
        """Create the file on the disk of `folder`, or on that of temporary files if this fails. Raises OSError."""
        self._size = 0
        try:
            self._file = _unnamed(folder)
        except OSError:
            self._file = _unnamed(None)
        self._close = weakref.finalize(self, self._file.close)

    def add(self, text: str) -> None:
        """Append `text`. Raises OSError."""
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
        """Yield the whole text as UTF-8 in pieces. Raises OSError."""
        self._file.seek(0)
        left = self._size
        while left and (piece := self._file.read(min(_PIECE_BYTES, left))):
            left -= len(piece)
            yield piece
        self._file.seek(self._size)


def _unnamed(folder: Path | None) -> RawIOBase:
    # Unbuffered, so that after an error the content of the file is known.
    return cast("RawIOBase", tempfile.TemporaryFile(dir=folder, buffering=0))


def write_all(file: RawIOBase, data: bytes) -> None:
    """Write all of `data` to an unbuffered file. After an OSError the file may have a part of it."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def copy_bytes(source: RawIOBase, target: RawIOBase, size: int) -> None:
    """Copy `size` bytes from the current position of `source`. Raises OSError."""
    while size and (piece := source.read(min(_PIECE_BYTES, size))):
        write_all(target, piece)
        size -= len(piece)


_PIECE_BYTES = 1 << 18
