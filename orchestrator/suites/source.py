"""Read the properties of a test file from its text: profile hint, pytest markers, shebang and size."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

HEADER_BYTES = 4096
WHOLE_BYTES = 1 << 20
"""The part of a longer file that is searched for markers."""

# Any comment style: a line that begins with punctuation (#, //, --, ;, %, /*, <!--, a quote) or REM.
_HINT = re.compile(
    rb"^[ \t]*(?:[^\w\s][^\w\n]*|rem[ \t]+)orch:[ \t]*profile[ \t]*=[ \t]*([\w.-]+)",
    re.MULTILINE | re.IGNORECASE,
)
_DECORATOR = re.compile(rb"^[ \t]*@(?:\w+\.)*mark\.(\w+)", re.MULTILINE)
_PYTESTMARK = re.compile(rb"^[ \t]*pytestmark[ \t]*(?::[^=\n]*)?=[ \t]*", re.MULTILINE)
_MARK = re.compile(rb"\bmark\.(\w+)")
_COMMENT = re.compile(rb"#[^\n]*")
_MARK_LIST_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The properties of a test file that are read without running it."""

    content: bytes = b""
    """The first 4 KiB, or the whole file (up to 1 MiB) for Python."""
    size_bytes: int = 0
    executable: bool = False
    """True if all users may execute the file: in the container it belongs to another user."""
    profile_hint: str | None = None
    markers: frozenset[str] = frozenset()

    @property
    def has_shebang(self) -> bool:
        """True if the file names its interpreter, so that the kernel can start it."""
        return self.content.startswith(b"#!")


def read_source(path: str, *, python: bool) -> Source:
    """Read a file's header, or for `python` the whole file and its markers. Raises OSError."""
    # O_NONBLOCK: if the file has become a FIFO since it was listed, opening it must not block.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path!r} is not a regular file")
        # Not more than the file's size: allocating 1 MiB for each small file costs more than reading it.
        content = os.read(handle, min(WHOLE_BYTES if python else HEADER_BYTES, status.st_size))
    finally:
        os.close(handle)
    return Source(
        content=content,
        size_bytes=status.st_size,
        executable=bool(status.st_mode & stat.S_IXOTH),
        profile_hint=profile_hint(content),
        markers=file_markers(content) if python else frozenset(),
    )


def profile_hint(content: bytes) -> str | None:
    """Return NAME of a comment `orch: profile=NAME` in the first 4 KiB, or None."""
    header = content[:HEADER_BYTES]
    if b"rch:" not in header:  # true for most files; `orch:` in upper or lower case is left to the expression
        return None
    found = _HINT.search(header)
    return found.group(1).decode("ascii", "replace") if found else None


def file_markers(content: bytes) -> frozenset[str]:
    """Return the pytest markers of a module and of everything decorated in it: all count, because the file is one
    test.

    They are found by regular expression, because parsing 10,000 files would take seconds. A decorator that begins
    a line inside a multi-line string counts too; a mark of a single parameter set (`pytest.param(marks=...)`) does
    not.
    """
    if b"mark." not in content:
        return frozenset()
    markers = set(_DECORATOR.findall(content))
    if b"pytestmark" in content:
        for assignment in _PYTESTMARK.finditer(content):
            markers.update(_MARK.findall(_assigned(content, assignment.end())))
    return frozenset(marker.decode() for marker in markers)  # a \w of bytes is ASCII


def _assigned(content: bytes, start: int) -> bytes:
    """Return the value that begins at `start`: up to the closing bracket of a list, else up to the end of the
    line.
    """
    value = _COMMENT.sub(b"", content[start : start + _MARK_LIST_BYTES])
    depth = 0
    for at in range(len(value)):
        character = value[at : at + 1]
        if character in b"([{":
            depth += 1
        elif character in b")]}":
            depth -= 1
        elif character == b"\n" and depth <= 0:
            return value[:at]
    return value
