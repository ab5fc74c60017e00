"""Parses the output of a container: the agent's marks, the test's own output, the record, the archive.

It is pure, except for the sinks. A mark is valid only with the test's secret nonce; one that a test prints is
text.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from orchestrator.model.evidence import (
    AgentRecord,
    Launch,
    LeftoverFiles,
    LeftoverIpc,
    LeftoverProcess,
    OutputChunk,
    OutputLog,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

READY = b"\norch-agent ready\n"
BEGIN_MARKS = ("begin", "run")
"""The marks before the first test of a slot, and before each test if only the agent reads counters."""
PREPARED_MARKS = ("begin", "ready", "run")
"""The marks before a test that processes are prepared for: the agent waits for `go` after `ready`."""
OUT_MARKS = ("end", "rest", "list", "tar", "reset", "over")
ERR_MARKS = ("end",)
TAIL_BYTES = 1 << 16
HELD_SECONDS = 0.1
"""The time from the test's release in which its output is buffered, to be written to the file in one piece."""
MAX_CHUNKS = 10_000
"""The number of timestamps stored for one stream; output after these is stored without its time."""
MAX_TEXT_BYTES = 1 << 20
MAX_LEFTOVERS = 100
MAX_NAMES = 5
MAX_NOTE_CHARS = 300


class Sink(Protocol):
    """Receives the bytes of one section."""

    def feed(self, data: bytes) -> None:
        """Process the next bytes."""


class TextSink:
    """Keeps a short section in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Store up to 1 MiB, and drop later bytes."""
        data = data[: MAX_TEXT_BYTES - self._size]
        self._size += len(data)
        self._parts.append(data)

    @property
    def text(self) -> str:
        """The stored bytes, decoded."""
        return b"".join(self._parts).decode(errors="replace")


class LogSink:
    """One output stream of a test: writes the first bytes to a file and keeps the last ones for display."""

    def __init__(self, path: Path | None, cap_bytes: int, started: float, name: str = "") -> None:
        """Write to `path`, or to the file `name` in the folder `path`, at most `cap_bytes`.

        `started` is the monotonic time of the test's release.
        """
        self._path = path
        self._name = name
        self._file: IO[bytes] | None = None
        self._cap = cap_bytes
        self._started = started
        self._total = 0
        self._kept = 0
        self._tail = b""
        self._chunks: list[OutputChunk] = []
        self._held: list[bytes] = []
        """Buffered pieces: to create a file takes 0.6 ms, by which a short test's end would be noticed later."""

    def feed(self, data: bytes) -> None:
        """Count all bytes and store those up to the cap."""
        if not data:
            return
        since = time.monotonic() - self._started
        if len(self._chunks) < MAX_CHUNKS:
            self._chunks.append(OutputChunk(at_seconds=round(since, 6), offset=self._total))
        self._total += len(data)
        keep = data[: max(0, self._cap - self._kept)]
        if keep:
            self._kept += len(keep)
            self._held.append(keep)
            if since > HELD_SECONDS or self._kept > TAIL_BYTES:
                self.flush()
        self._tail = (self._tail + data)[-TAIL_BYTES:]

    def flush(self) -> None:
        """Write buffered output to the file, so that it can be read while the test runs. Raises OSError."""
        held, self._held = self._held, []
        if not held or self._path is None:
            return
        view = memoryview(b"".join(held))
        try:
            file = self._opened(self._path)
            while view:
                view = view[file.write(view) :]
        finally:
            self._kept -= len(view)

    def _opened(self, path: Path) -> IO[bytes]:
        """Return the open file, created at the first output: a test without output has no file."""
        if self._file is None:
            if self._name:  # joined only here, because most tests of a reused slot write nothing
                path = self._path = path / self._name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=0)
        return self._file

    def restart(self, started: float) -> None:
        """Set a later monotonic time of the test's release."""
        self._started = started

    def close(self) -> OutputLog:
        """Close the file and return what was received."""
        try:
            self.flush()
        finally:
            if self._file is not None:
                self._file.close()
        return OutputLog(
            path=None if self._file is None else self._path,
            total_bytes=self._total,
            kept_bytes=self._kept,
            tail=self._tail,
            chunks=tuple(self._chunks),
        )


class SectionParser:
    """Splits a stream at its marks, however it is divided into pieces."""

    def __init__(self, nonce: str, marks: Sequence[str], sinks: Sequence[Sink]) -> None:
        """Expect `marks` in this order; `sinks[i]` receives the bytes before `marks[i]`."""
        self._marks = "\0".join([f"\n{nonce} {mark}\n" for mark in marks]).encode().split(b"\0")
        self._sinks = sinks
        self._at = 0
        self._pending = b""

    @property
    def passed(self) -> int:
        """The number of marks that have arrived."""
        return self._at

    @property
    def complete(self) -> bool:
        """True if all marks have arrived."""
        return self._at == len(self._marks)

    def feed(self, data: bytes) -> bytes:
        """Pass on the bytes that cannot belong to a mark; return the bytes after the last mark."""
        data, self._pending = self._pending + data, b""
        while not self.complete:
            mark, sink = self._marks[self._at], self._sinks[self._at]
            found = data.find(mark)
            if found < 0:
                held = _possible_start(data, mark)
                sink.feed(data[: len(data) - held])
                self._pending = data[len(data) - held :]
                return b""
            sink.feed(data[:found])
            data = data[found + len(mark) :]
            self._at += 1
        return data

    def flush(self) -> None:
        """Pass on bytes that could have become a mark, because the stream has ended."""
        if not self.complete:
            self._sinks[self._at].feed(self._pending)
        self._pending = b""


def _possible_start(data: bytes, mark: bytes) -> int:
    """Return how many bytes at the end of `data` may be the start of `mark`.

    A mark begins with a newline and contains no other before its last byte.
    """
    start = data.rfind(b"\n", max(0, len(data) - len(mark) + 1))
    return len(data) - start if start >= 0 and mark.startswith(data[start:]) else 0


def parse_end(text: str) -> tuple[int, str] | None:
    """Parse the section after `end`: (exit code, text of the counters), None if agent.sh did not write it."""
    head, _, counters = text.partition("\n")
    word, _, rest = head.partition(" ")
    number = rest.partition(" ")[0]
    if word != "code" or not _is_number(number) or int(number) > 255 or counters[:1] not in ("", "@"):
        return None
    return int(number), counters


def parse_launch(text: str) -> tuple[Launch, str | None]:
    """Parse from the section after `end` how the test was started, and why it was not forked if it could be."""
    _, _, how = text.partition("\n")[0].partition(" ")[2].partition(" ")
    if how.startswith("["):
        how = how.partition("]")[2].lstrip()
    word, _, why = how.partition(" ")
    return (Launch.FORKED, None) if word == "forked" else (Launch.PROCESS, why[:MAX_NOTE_CHARS] or None)


def parse_server_pids(text: str) -> str:
    """Parse from the section after `end` the pids of the processes that tests are forked from, blank-separated."""
    _, opening, rest = text.partition("\n")[0].partition(" [")
    found = rest.partition("]")[0]
    return found if opening and all(map(_is_number, found.split())) else ""


def parse_record(code: int, text: str, reset: str) -> AgentRecord:
    """Parse a test's record from the sections after `rest` (what it left) and `reset` (what was not emptied)."""
    if not text and not reset.strip():
        return AgentRecord(exit_code=code)
    leftovers: list[LeftoverProcess] = []
    dirty: list[str] = []
    modes: tuple[str, ...] = ()
    left: list[tuple[str, str]] = []
    for line in text.split("\n"):  # not splitlines: a leftover's command line may hold its other separators
        word, _, rest = line.partition(" ")
        if word == "leftover":
            pid, _, command = rest.partition(" ")
            if _is_number(pid) and len(leftovers) < MAX_LEFTOVERS:
                leftovers.append(LeftoverProcess(pid=int(pid), command_line=command.strip()))
        elif word == "dirty":
            dirty.append(rest)
        elif word == "modes":
            modes = tuple(rest.split())
        elif word in _LEFT_WORDS:
            left.append((word, rest))
    dirty += [line.partition(" ")[2] for line in reset.split("\n") if line.startswith("dirty ")]
    return AgentRecord(
        exit_code=code,
        leftovers=tuple(leftovers),
        dirty=tuple(dirty),
        modes=modes,
        places=_places(left),
        ipc=tuple(_ipc(rest) for word, rest in left if word == "ipc")[:MAX_LEFTOVERS],
    )


def parse_clean_counters(reset: str) -> str:
    """Return the counters after a cleaning from the section after `reset`; empty if nothing was cleaned."""
    at = reset.find("@")
    return reset[at:] if at >= 0 else ""


def unexpected(before: str, left: str, reset: str) -> str | None:
    """Return a description of text between the agent's marks that another process wrote, None if there is none.

    `before` is the text before a slot's first test; `left` and `reset` are the sections after these marks.
    """
    if before:
        return f"before the first test: {before[:MAX_NOTE_CHARS]!r}"
    dirty = reset.partition("@")[0]
    lines = {"after a test": (left, _LEFT_WORDS | {"leftover", "dirty"}), "after the cleaning": (dirty, {"dirty"})}
    for place, (text, words) in lines.items():
        for line in text.split("\n"):
            if line and line.partition(" ")[0] not in words:
                return f"{place}: {line[:MAX_NOTE_CHARS]!r}"
    return None


_LEFT_WORDS = frozenset({"left", "name", "space", "ipc", "modes"})


def _places(lines: Sequence[tuple[str, str]]) -> tuple[LeftoverFiles, ...]:
    """Parse `left PLACE ENTRIES`, `name PLACE NAME` and `space PLACE BLOCKS FREE INODES FREE BLOCKSIZE`."""
    places = []
    for word, rest in lines:
        place, _, entries = rest.partition(" ")
        if word != "left" or not _is_number(entries):
            continue
        own = [(word, text) for word, line in lines for at, _, text in (line.partition(" "),) if at == place]
        names = [text for word, text in own if word == "name"]
        space = next((text.split() for word, text in own if word == "space"), [])
        numbers = [int(number) for number in space if _is_number(number)]
        blocks, free, inodes, free_inodes, block = numbers if len(numbers) == 5 else (None,) * 5
        places.append(
            LeftoverFiles(
                place=place,
                entries=int(entries),
                names=tuple(names[:MAX_NAMES]),
                used_bytes=_product(_difference(blocks, free), block),
                size_bytes=_product(blocks, block),
                used_inodes=_difference(inodes, free_inodes),
                size_inodes=inodes,
            )
        )
    return tuple(places)


def _difference(total: int | None, free: int | None) -> int | None:
    return None if total is None or free is None or free > total else total - free


def _product(number: int | None, size: int | None) -> int | None:
    return None if number is None or size is None else number * size


def _ipc(text: str) -> LeftoverIpc:
    """Parse `KIND ID AMOUNT`, or `mqueue NAME` for a message queue."""
    kind, _, rest = text.partition(" ")
    if kind == "mqueue":
        return LeftoverIpc(kind=kind, name=rest)
    name, _, amount = rest.partition(" ")
    return LeftoverIpc(kind=kind, name=name, amount=int(amount) if _is_number(amount) else None)


def _is_number(word: str) -> bool:
    """Return whether the word consists of ASCII digits, at most 19."""
    return word.isascii() and word.isdigit() and len(word) < 20
