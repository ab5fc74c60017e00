"""Inspect SQLite files before SQLite opens them: of orch, of another program, or not a database. Rename files that
must be kept.

Formats: https://www.sqlite.org/fileformat2.html (sections 1.3 and 4.1).
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from orchestrator.database.schema.version import APPLICATION_ID, SCHEMA_VERSION

_MAGIC = b"SQLite format 3\x00"
_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "vboxsf", "afs"})


class FileKind(Enum):
    """The kind of a database file."""

    ABSENT = "absent"
    OURS = "a database of orch"
    FOREIGN = "another program's SQLite database"
    NOISE = "not a database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The facts in the first 100 bytes of a database file."""

    kind: FileKind
    version: int = 0
    """The schema version of a database of orch, otherwise 0."""
    cut_short: bool = False
    """True if the file is smaller than its header says, and no log could contain the rest."""


def database_file(state_dir: Path) -> Path:
    """Return the database file of a project whose settings name no database."""
    return state_dir / "resources.db"


def companion(path: Path, suffix: str) -> Path:
    """Return the path of a file that SQLite keeps beside the database: suffix `-wal`, `-shm` or `-journal`."""
    return path.with_name(path.name + suffix)


def read_header(path: Path) -> Header:
    """Read the header of a database file without locking or changing it. An empty file counts as absent."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return Header(kind=FileKind.ABSENT)
    if size == 0:
        return Header(kind=FileKind.ABSENT)
    if len(head) < 100 or not head.startswith(_MAGIC):
        return Header(kind=FileKind.NOISE)
    page_bytes, pages = struct.unpack_from(">H", head, 16)[0], struct.unpack_from(">I", head, 28)[0]
    version, application = struct.unpack_from(">I", head, 60)[0], struct.unpack_from(">I", head, 68)[0]
    if application != APPLICATION_ID:
        return Header(kind=FileKind.FOREIGN)
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    # A kill during a checkpoint leaves a file with missing pages; the log contains them then.
    cut_short = size < pages * page_bytes and not log_bytes(path)
    return Header(kind=FileKind.OURS, version=version, cut_short=cut_short)


def log_bytes(path: Path) -> int:
    """Return the size of the write-ahead log of the database at `path`; 0 if it is missing or empty."""
    try:
        return companion(path, "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def has_log(path: Path, *, even_empty: bool = False) -> bool:
    """Return True if a log or journal of the database at `path` may contain changes that are not in the file.

    `even_empty`: an empty write-ahead log counts too, because a run may be about to write to it.
    """
    in_log = companion(path, "-wal").exists() if even_empty else log_bytes(path) > 0
    return in_log or companion(path, "-journal").exists()


def is_readable_in_place(path: Path, header: Header, *, even_empty: bool = False) -> bool:
    """Return True if the file at `path` is a complete database of orch with the current schema, so that it can be
    read as it is. `header`: the result of `read_header`. `even_empty`: see `has_log`.
    """
    current = header.kind is FileKind.OURS and header.version == SCHEMA_VERSION and not header.cut_short
    return current and not has_log(path, even_empty=even_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalLog:
    """The contents that a write-ahead log claims to have, before SQLite has verified its checksums."""

    valid_header: bool
    salt: bytes = b""
    committed_frames: int = 0
    """The number of the last frame of the current generation that ends a transaction and must be complete.

    It does not count a frame that a kill may have left half written: the last one of its generation, followed by a
    frame of an older generation (SQLite writes the header of a frame and its page in two calls).
    """
    torn: bool = False
    """True if the file ends within a frame, where not even the write of a killed process ends."""


def read_wal(path: Path) -> WalLog | None:
    """Return the facts about the write-ahead log of the database at `path`, or None if it is missing or empty."""
    size = log_bytes(path)
    if not size:
        return None
    with companion(path, "-wal").open("rb") as file:
        head = file.read(_WAL_HEADER_BYTES)
        if not _valid_wal_header(head):
            return WalLog(valid_header=False)
        salt, frame_bytes = head[16:24], _FRAME_HEADER_BYTES + struct.unpack_from(">I", head, 8)[0]
        frames, rest = divmod(size - _WAL_HEADER_BYTES, frame_bytes)
        earlier = committed = last = 0
        for number in range(1, frames + 1):
            file.seek(_WAL_HEADER_BYTES + (number - 1) * frame_bytes)
            frame = file.read(_FRAME_HEADER_BYTES)
            if frame[8:16] != salt:
                continue
            last = number
            if frame[4:8] != b"\0\0\0\0":
                earlier, committed = committed, number
    if committed == last < frames:
        committed = earlier
    # The last write of a killed process ends at its intended end, or at the end of a page of the page cache.
    killed = rest in {0, _FRAME_HEADER_BYTES} or size % mmap.PAGESIZE == 0
    return WalLog(valid_header=True, salt=salt, committed_frames=committed, torn=not killed)


def read_wal_salt(path: Path) -> bytes:
    """Return the salt of the write-ahead log, which changes when SQLite restarts the log; empty if there is no
    log.
    """
    try:
        with companion(path, "-wal").open("rb") as file:
            return file.read(_WAL_HEADER_BYTES)[16:24]
    except FileNotFoundError:
        return b""


def _valid_wal_header(head: bytes) -> bool:
    if len(head) < _WAL_HEADER_BYTES:
        return False
    magic = struct.unpack_from(">I", head, 0)[0]
    if magic not in {0x377F0682, 0x377F0683}:
        return False
    order = ">" if magic & 1 else "<"
    first = second = 0
    for low, high in struct.iter_unpack(f"{order}II", head[:24]):
        first = (first + low + second) & 0xFFFFFFFF
        second = (second + high + first) & 0xFFFFFFFF
    return struct.unpack_from(">II", head, 24) == (first, second)


def time_stamp() -> str:
    """Return the present time (UTC) in the form used in file names."""
    return datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%SZ")


def free_name(path: Path, label: str) -> Path:
    """Return the unused name `path.label-TIME`, with a number appended if it is taken."""
    base = path.with_name(f"{path.name}.{label}-{time_stamp()}")
    candidates = [base, *(base.with_name(f"{base.name}-{n}") for n in range(2, 1_000))]
    return next(name for name in candidates if not name.exists())


def set_aside(path: Path) -> Path:
    """Rename a database and its log, so that SQLite still finds the log, and return the new name."""
    target = free_name(path, "set-aside")
    for suffix in ("-wal", "-journal"):
        if companion(path, suffix).exists():
            companion(path, suffix).rename(companion(target, suffix))
    companion(path, "-shm").unlink(missing_ok=True)
    if path.exists():
        path.rename(target)
    return target


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system on which `path` lies, or None if it is local or unknown."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts:
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ")
        if os.path.commonpath([point, real]) == point and len(point) >= len(best):
            best, kind = point, words[2]
    return kind if kind in _NETWORK_FILE_SYSTEMS else None
