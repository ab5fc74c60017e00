"""Report files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from typing import IO, TYPE_CHECKING

from orchestrator.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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
    without a name, which nobody has to remove whatever ends the run.
    """

    def __init__(self, folder: Path) -> None:
        """The file is in `folder`, on its disk. Raises OSError."""
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this does
        weakref.finalize(self, _close, self._file)

    def add(self, text: str) -> None:
        """Put it behind what is there. Raises OSError."""
        self._file.write(text.encode())

    def read(self) -> Iterator[bytes]:
        """All of it, as UTF-8. Raises OSError."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE_BYTES):
            yield piece
        self._file.seek(0, os.SEEK_END)


_PIECE_BYTES = 1 << 18


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk was told of where the text was added
        file.close()
