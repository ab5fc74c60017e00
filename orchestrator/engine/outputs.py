"""Brings back what a test left in `$ORCH_OUTPUT_DIR`, safely: the archive is written by a hostile program.

Regular files only, under names that stay inside the folder, within a cap of bytes and of files; everything
else is named in a note. Links, FIFOs, devices and holes never touch the host.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import RawIOBase
    from pathlib import Path
    from typing import IO

MAX_FILES = 10_000
MEMORY_BYTES = 1 << 20
"""An archive up to this size is held in memory: most are a report of a few KiB."""
MAX_NOTES = 50
MAX_NAME_BYTES = 1024
_COPY_BYTES = 1 << 18


def archive_cap_bytes(outputs_bytes: int) -> int:
    """Size of an archive of so many bytes of files: each has a header of 512 bytes and is padded to 512."""
    return outputs_bytes + MAX_FILES * 1024 + 65536


class ArchiveSink:
    """Takes the archive's bytes into memory or an unnamed temporary file, up to a cap; the rest is dropped."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap = archive_cap_bytes(cap_bytes)
        self._held: IO[bytes] | None = None
        self.size = 0
        self.overflow = False

    def feed(self, data: bytes) -> None:
        """Keep what fits."""
        if self.size + len(data) > self._cap:
            self.overflow = True
            return
        if not data:
            return
        self.size += len(data)
        self._file.write(data)

    @property
    def _file(self) -> IO[bytes]:
        """Made when there is something to keep: most tests have no outputs."""
        if self._held is None:
            self._held = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 - lives as long as the sink
        return self._held

    def extract(self, folder: Path, cap_bytes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(files that came back, notes on what did not); `folder` is made only if there is a file."""
        if self.size == 0:
            return (), ()
        self._file.seek(0)
        names: list[str] = []
        notes = ["the outputs are larger than their place; only a part came back"] if self.overflow else []
        try:
            self._extract(folder, cap_bytes, names, notes)
        except _FullError as error:
            notes.append(f"the outputs could not be kept: {error}")
        except Exception as error:  # noqa: BLE001 - tarfile raises almost anything at what a hostile program writes
            notes.append(f"the archive of the outputs is damaged: {error or type(error).__name__}")
        return tuple(sorted(names)), tuple(notes)

    def _extract(self, folder: Path, cap_bytes: int, names: list[str], notes: list[str]) -> None:
        left, at = cap_bytes, -1
        with tarfile.open(fileobj=self._file, mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                if member.size < 0 or member.offset <= at:  # would be read for ever (CVE-2025-8194)
                    raise tarfile.ReadError("a header leads backwards")
                at = member.offset
                if member.isdir():
                    continue
                problem = _refusal(member, names, left)
                if problem is None:
                    problem = _copy(archive, member, folder)
                if problem is None:
                    names.append(_clean(member.name))
                    left -= member.size
                elif len(notes) < MAX_NOTES:
                    notes.append(f"{_clean(member.name)[:200]!r}: {problem}")
            end = archive.offset
        self._file.seek(end)
        # tarfile takes a cut between two members, and a broken header that is not the first, for the end
        if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends early")

    def close(self) -> None:
        """Forget it."""
        if self._held is not None:
            self._held.close()


class _FullError(Exception):
    """A file could not be written here."""


def _clean(name: str) -> str:
    return name.removeprefix("./")


def _refusal(member: tarfile.TarInfo, names: list[str], left: int) -> str | None:  # noqa: PLR0911 - one reason a line
    name = _clean(member.name)
    parts = name.split("/")
    if not member.isreg():
        return "not a regular file"
    if member.issparse():
        return "a sparse file"
    if len(os.fsencode(name)) > MAX_NAME_BYTES or max(len(os.fsencode(p)) for p in parts) > 255:
        return "its name is too long"
    if name.startswith("/") or any(p in ("", ".", "..") for p in parts) or "\0" in name:
        return "its name leads out of the folder"
    if member.size > left:
        return "over the cap"
    if len(names) >= MAX_FILES:
        return f"more than {MAX_FILES} files"
    return None


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> str | None:
    source = archive.extractfile(member)
    if source is None:
        return "not a regular file"
    target = folder.joinpath(*_clean(member.name).split("/"))
    # nothing but regular files and folders is ever made here, so no part of the path can be a link
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return "another file has its name"
    except OSError as error:
        raise _FullError(error) from error
    with os.fdopen(descriptor, "wb", buffering=0) as out:
        while data := source.read(_COPY_BYTES):
            _write(out, data)
    return None


def _write(out: RawIOBase, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[out.write(view) or 0 :]
    except OSError as error:
        raise _FullError(error) from error
