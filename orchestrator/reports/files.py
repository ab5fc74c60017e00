"""Report files appear whole or not at all."""

from __future__ import annotations

import tempfile
import weakref
from typing import TYPE_CHECKING, cast

from orchestrator.files import NO_ROOM, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import RawIOBase
    from pathlib import Path


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write beside `path`, then rename: a reader never sees half a report, a failed write keeps the old one.

    `content` in one piece or in many. Folders are made as needed. The file gets the permissions that the umask
    allows: a CI agent of another user may have to read it. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)


class Pieces:
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
