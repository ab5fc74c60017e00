"""Extracts the files that a test left in `$ORCH_OUTPUT_DIR`. The archive may be written by a hostile program.

Only regular files with names inside the folder are extracted, up to a number of bytes and of files; all others,
and those missing in the archive, are named in notes. A hard link is extracted as a copy; other links, FIFOs,
devices and sparse files are refused.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from typing import TYPE_CHECKING

from orchestrator.files import NO_ROOM

if TYPE_CHECKING:
    from io import RawIOBase
    from pathlib import Path
    from typing import IO

MAX_FILES = 10_000
MEMORY_BYTES = 1 << 20
"""The largest archive that is kept in memory; most are a report of a few KiB."""
MAX_NOTES = 50
LIST_BYTES = 262_144
"""The largest list of names that the agent sends."""
MAX_NAME_BYTES = 1024
_COPY_BYTES = 1 << 18


def archive_cap_bytes(outputs_bytes: int) -> int:
    """Return the largest size of a tar archive of so many bytes of files, with headers and padding."""
    return outputs_bytes + MAX_FILES * 1024 + 65536


class ArchiveSink:
    """Stores the bytes of an archive in memory or an unnamed temporary file, up to a cap; drops the rest."""

    def __init__(self, cap_bytes: int) -> None:
        self._cap = archive_cap_bytes(cap_bytes)
        self._held: IO[bytes] | None = None
        self.size = 0
        self.overflow = False

    def feed(self, data: bytes) -> None:
        """Store the bytes, or set `overflow` if they exceed the cap."""
        if self.size + len(data) > self._cap:
            self.overflow = True
            return
        if not data:
            return
        self.size += len(data)
        self._file.write(data)

    @property
    def _file(self) -> IO[bytes]:
        """Return the temporary file, which is created at the first byte because most tests have no outputs."""
        if self._held is None:
            self._held = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 - lives as long as the sink
        return self._held

    def extract(self, folder: Path, cap_bytes: int, listed: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Extract the archive to `folder`, which is created if there is a file.

        Return the names of the extracted files, and notes on files that were not extracted. `listed` has one line
        for the name of each file to be packed, a line `//`, and one for each that was too large. Raises OSError if
        the disk is full.
        """
        names: list[str] = []
        notes = _Notes()
        if self.overflow or self.size == self._cap:
            notes.add("the outputs are larger than their place; only a part came back")
        try:
            if self.size:
                self._file.seek(0)
                self._extract(folder, cap_bytes, names, notes)
        except _FullError as error:
            if error.cause.errno in NO_ROOM:  # the test's own report may be among the files
                raise error.cause from None
            notes.add(f"the outputs could not be kept: {error.cause}")
        except Exception as error:  # noqa: BLE001 - tarfile raises almost anything at what a hostile program writes
            notes.add(f"the archive of the outputs is damaged: {error or type(error).__name__}")
        notes.add_missing(names, listed, cap_bytes)
        return tuple(sorted(names)), notes.texts()

    def _extract(self, folder: Path, cap_bytes: int, names: list[str], notes: _Notes) -> None:
        """Extract all archives of the stream: for many files the agent starts tar several times."""
        left = cap_bytes
        while self._at_archive():
            left = self._extract_one(folder, left, names, notes)

    def _at_archive(self) -> bool:
        """Skip the zero blocks that end an archive; return whether another archive follows."""
        while block := self._file.read(tarfile.BLOCKSIZE):
            if block.strip(b"\0"):
                self._file.seek(-len(block), os.SEEK_CUR)
                return True
        return False

    def _extract_one(self, folder: Path, left: int, names: list[str], notes: _Notes) -> int:
        """Extract one archive; return how many of the `left` bytes remain."""
        at = -1
        with tarfile.open(fileobj=self._file, mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                if member.size < 0 or member.offset <= at:  # it would be read without end (CVE-2025-8194)
                    raise tarfile.ReadError("a header leads backwards")
                at = member.offset
                if member.isdir():
                    continue
                problem, size = _refusal(member, names, left), member.size
                if problem is None and member.islnk():
                    problem, size = _copy_link(member, names, folder, left)
                elif problem is None:
                    problem = _copy(archive, member, folder)
                if problem is None:
                    names.append(_clean(member.name))
                    left -= size
                else:
                    notes.refused(_clean(member.name), problem)
            end = archive.offset
        self._file.seek(end)
        # tarfile treats a cut between two members, and a broken header that is not the first, as the end
        if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends early")
        return left

    def close(self) -> None:
        """Delete the stored bytes."""
        if self._held is not None:
            self._held.close()


class _Notes:
    """The notes on outputs that were not extracted, with the names of the first `MAX_NOTES`."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._more = 0
        self._named: set[str] = set()

    def add(self, text: str) -> None:
        """Add a note, also beyond `MAX_NOTES`."""
        self._texts.append(text)

    def refused(self, name: str, problem: str) -> None:
        """Add a note on a file that was not extracted."""
        self._named.add(name)
        if len(self._texts) < MAX_NOTES:
            self._texts.append(f"{name[:200]!r}: {problem}")
        else:
            self._more += 1

    def add_missing(self, names: list[str], listed: str, cap_bytes: int) -> None:
        """Add a note for each listed file that is not in the archive."""
        # a name with newlines is listed on several lines
        there = {line for name in (*names, *self._named) for line in _as_listed(f"./{name}").split("\n")}
        every, _, large = listed.partition("\n//\n")
        too_large = set(large.split("\n"))
        lines = every.split("\n") if len(every) < LIST_BYTES - 1 else every.split("\n")[:-1]  # the last one is cut
        for line in lines:
            if line.startswith("./") and line not in there:
                why = f"larger than the {cap_bytes} bytes that may come back" if line in too_large else _NOT_PACKED
                self.refused(line[2:], why)

    def texts(self) -> tuple[str, ...]:
        """Return all notes, and one with the number of files without a note."""
        return (*self._texts, *([f"{self._more} more did not come back"] if self._more else []))


_NOT_PACKED = "not packed: it is no regular file, or lies behind what was cut off"


def _as_listed(name: str) -> str:
    """Return a name as it appears in the decoded list, where bytes that are not UTF-8 are replaced."""
    return os.fsencode(name).decode(errors="replace")


class _FullError(Exception):
    """Raised if a file could not be written to the results folder."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _clean(name: str) -> str:
    return name.removeprefix("./")


def _refusal(member: tarfile.TarInfo, names: list[str], left: int) -> str | None:  # noqa: PLR0911 - one reason a line
    name = _clean(member.name)
    parts = name.split("/")
    if not member.isreg() and not member.islnk():
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
    return _store(source, member, folder)


def _store(source: IO[bytes], member: tarfile.TarInfo, folder: Path) -> str | None:
    target = folder.joinpath(*_clean(member.name).split("/"))
    # only regular files and folders are created here, so no part of the path can be a link
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return "another file has its name"
    except OSError as error:
        raise _FullError(error) from error
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as out:
            while data := source.read(_COPY_BYTES):
                _write(out, data)
    except BaseException:
        target.unlink(missing_ok=True)  # an incomplete file is not kept: it is named as missing
        raise
    return None


def _copy_link(member: tarfile.TarInfo, names: list[str], folder: Path, left: int) -> tuple[str | None, int]:
    """Copy the extracted file that a hard link refers to; return (reason if refused, size in bytes)."""
    name = _clean(member.linkname)
    if name not in names:
        return "another name of a file that did not come back", 0
    source = folder.joinpath(*name.split("/"))
    size = source.stat().st_size
    if size > left:
        return "over the cap", 0
    with source.open("rb") as file:
        return _store(file, member, folder), size


def _write(out: RawIOBase, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[out.write(view) or 0 :]
    except OSError as error:
        raise _FullError(error) from error
