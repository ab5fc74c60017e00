from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.agent.protocol import (
    ERR_MARKS,
    HELD_SECONDS,
    MAX_CHUNKS,
    MAX_LEFTOVERS,
    MAX_TEXT_BYTES,
    OUT_MARKS,
    TAIL_BYTES,
    LogSink,
    SectionParser,
    TextSink,
    parse_clean_counters,
    parse_end,
    parse_launch,
    parse_record,
    parse_server_pids,
    unexpected,
)
from orchestrator.model.evidence import Launch

NONCE = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


class ListSink:
    def __init__(self) -> None:
        self.data = b""

    def feed(self, data: bytes) -> None:
        self.data += data


# content that looks like what it must not be taken for: newlines, halves of marks, marks of another nonce
FRAGMENTS = st.sampled_from(
    [
        b"\n",
        NONCE.encode(),
        f"\n{NONCE[:20]}".encode(),
        f"\n{OTHER} end\n".encode(),
        b"end\n",
        b" tar\n",
        b"\0\0",
        b"\xff",
    ]
)
CONTENT = st.lists(st.one_of(st.binary(max_size=40), FRAGMENTS), max_size=8).map(b"".join)


def holds_a_mark(content: bytes) -> bool:
    return any(f"\n{NONCE} {mark}\n".encode() in content for mark in OUT_MARKS)


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(CONTENT, min_size=len(OUT_MARKS), max_size=len(OUT_MARKS)), st.lists(st.integers(0), max_size=30))
def test_any_split_gives_the_same_sections(contents: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(
        content + f"\n{NONCE} {mark}\n".encode() for content, mark in zip(contents, OUT_MARKS, strict=True)
    )
    # a fragment may by chance complete the real mark earlier, together with what follows it
    starts = [stream.find(f"\n{NONCE} {mark}\n".encode()) for mark in OUT_MARKS]
    if holds_a_mark(b"|".join(contents)) or sorted(starts) != starts:
        return
    sinks = [ListSink() for _ in OUT_MARKS]
    sections = SectionParser(NONCE, OUT_MARKS, sinks)
    for piece in pieces_of(stream, cuts):
        assert sections.feed(piece) == b""
    assert sections.complete
    assert [sink.data for sink in sinks] == contents


@given(CONTENT, st.lists(st.integers(0), max_size=30))
def test_without_a_mark_everything_is_content_and_little_is_held_back(content: bytes, cuts: list[int]) -> None:
    if holds_a_mark(content):
        return
    sink = ListSink()
    sections = SectionParser(NONCE, ERR_MARKS, [sink])
    fed = 0
    for piece in pieces_of(content, cuts):
        sections.feed(piece)
        fed += len(piece)
        assert fed - len(sink.data) < len(f"\n{NONCE} end\n")
    sections.flush()
    assert sink.data == content
    assert not sections.complete


def test_byte_by_byte() -> None:
    sinks = [ListSink(), ListSink()]
    sections = SectionParser(NONCE, ("a", "b"), sinks)
    for byte in f"x\n\n{NONCE} a\n\n{NONCE} a\ny\n{NONCE} b\nrest".encode():
        sections.feed(bytes([byte]))
    assert [sink.data for sink in sinks] == [b"x\n", f"\n{NONCE} a\ny".encode()]
    assert sections.passed == 2


@pytest.mark.parametrize(
    "forged",
    [
        f"\n{OTHER} end\n",
        f"{NONCE} end\n",
        f"\n{NONCE} end",
        f"\n{NONCE}  end\n",
        f"\n{NONCE} END\n",
        f"\r{NONCE} end\r",
    ],
)
def test_a_forged_mark_is_content(forged: str) -> None:
    sink = ListSink()
    sections = SectionParser(NONCE, ERR_MARKS, [sink])
    sections.feed(b"before" + forged.encode() + b"after")
    sections.flush()
    assert sink.data == b"before" + forged.encode() + b"after"
    assert not sections.complete


def test_what_follows_the_last_mark_is_returned() -> None:
    sections = SectionParser(NONCE, ERR_MARKS, [ListSink()])
    assert sections.feed(f"x\n{NONCE} end\nnext".encode()) == b"next"
    assert sections.feed(b"more") == b"more"


def test_a_text_sink_is_bounded() -> None:
    sink = TextSink()
    for _ in range(20):
        sink.feed(b"x" * 100_000)
    assert len(sink.text) == MAX_TEXT_BYTES
    odd = TextSink()
    odd.feed(b"a\xff\0b")
    assert odd.text == "a\ufffd\0b"


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(0, 1000))
def test_a_log_keeps_the_first_bytes_and_counts_all(pieces: list[bytes], cap: int) -> None:
    sink = LogSink(None, cap, time.monotonic())
    for piece in pieces:
        sink.feed(piece)
    log, whole = sink.close(), b"".join(pieces)
    assert (log.total_bytes, log.kept_bytes) == (len(whole), min(cap, len(whole)))
    assert log.truncated == (len(whole) > cap)
    assert log.tail == whole[-TAIL_BYTES:]
    assert [chunk.offset for chunk in log.chunks] == sorted({chunk.offset for chunk in log.chunks})


def test_a_logs_file_holds_the_kept_bytes_unchanged(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "stdout", 10, time.monotonic())
    for piece in (b"\0\xff\x1b[2J", b"", b"12345678", b"more"):
        sink.feed(piece)
    log = sink.close()
    assert (tmp_path / "stdout").read_bytes() == b"\0\xff\x1b[2J1234"
    assert log == sink.close()
    assert (log.total_bytes, log.kept_bytes, len(log.chunks)) == (18, 10, 3)


def test_a_flood_of_small_pieces_keeps_its_timestamps_bounded() -> None:
    sink = LogSink(None, 5, time.monotonic())
    for _ in range(MAX_CHUNKS + 500):
        sink.feed(b"x")
    log = sink.close()
    assert len(log.chunks) == MAX_CHUNKS
    assert log.total_bytes == MAX_CHUNKS + 500


def test_a_full_disk_is_an_error_that_the_caller_sees() -> None:
    sink = LogSink(Path("/dev/full"), 10, time.monotonic())
    sink.feed(b"x")
    with pytest.raises(OSError, match="No space left"):
        sink.close()
    assert sink.close().kept_bytes == 0
    late = LogSink(Path("/dev/full"), 10, time.monotonic() - HELD_SECONDS - 1)
    with pytest.raises(OSError, match="No space left"):
        late.feed(b"x")
    late.close()


def test_what_a_test_writes_at_first_is_written_together_and_later_output_at_once(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "stdout", 1 << 20, time.monotonic())
    sink.feed(b"first")
    assert not (tmp_path / "stdout").exists()
    sink.flush()
    assert (tmp_path / "stdout").read_bytes() == b"first"
    sink.restart(time.monotonic() - HELD_SECONDS - 1)
    sink.feed(b" later")
    assert (tmp_path / "stdout").read_bytes() == b"first later"
    sink.close()
    many = LogSink(tmp_path / "stderr", 1 << 20, time.monotonic())
    many.feed(b"x" * (TAIL_BYTES + 1))
    assert (tmp_path / "stderr").stat().st_size == TAIL_BYTES + 1
    many.close()


def test_the_end_of_a_test() -> None:
    assert parse_end("code 7\n@/sys/x\n1\ncode 0\n@/sys/y\nleftover 2 z\n") == (
        7,
        "@/sys/x\n1\ncode 0\n@/sys/y\nleftover 2 z\n",
    )


@pytest.mark.parametrize(
    ("line", "serving", "launch"),
    [
        ("code 0", "", (Launch.PROCESS, None)),
        ("code 0 forked", "", (Launch.FORKED, None)),
        ("code 0 [7] forked", "7", (Launch.FORKED, None)),
        ("code 1 [7 12 13] refused fork: [no] more", "7 12 13", (Launch.PROCESS, "fork: [no] more")),
        ("code 0 [7]", "7", (Launch.PROCESS, None)),
        ("code 0 refused threads run: [x]", "", (Launch.PROCESS, "threads run: [x]")),
        ("code 0 [7 x] forked", "", (Launch.FORKED, None)),
    ],
)
def test_who_serves_and_how_a_test_was_started(line: str, serving: str, launch: tuple[Launch, str | None]) -> None:
    text = f"{line}\n@/sys/x\n1\n"
    assert parse_end(text) == (int(line.split()[1]), "@/sys/x\n1\n")
    assert parse_server_pids(text) == serving
    assert parse_launch(text) == launch


def test_modes_that_were_set_back() -> None:
    record = parse_record(0, "modes /tmp /output\n", "")
    assert (record.modes, record.dirty) == (("/tmp", "/output"), ())


def test_what_a_test_left_and_what_could_not_be_emptied() -> None:
    record = parse_record(7, "leftover 12 sleep 99 \nleftover 13 ?\ndirty processes\n", "dirty /tmp\nnonsense\n")
    assert record.exit_code == 7
    assert [(left.pid, left.command_line) for left in record.leftovers] == [(12, "sleep 99"), (13, "?")]
    assert record.dirty == ("processes", "/tmp")


def test_counters_are_read_again_only_after_cleaning() -> None:
    assert parse_clean_counters("@/sys/x\n5\n") == "@/sys/x\n5\n"
    assert parse_clean_counters("") == parse_clean_counters("dirty /tmp\n") == ""


@pytest.mark.parametrize(
    "text", ["", "code\n", "code x\n", "code -1\n", "code 256\n", "code ²\n", "code 1" + "0" * 5000, "exit 0"]
)
def test_what_is_no_end(text: str) -> None:
    assert parse_end(text) is None


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_a_command_line_with_other_line_separators_forges_nothing(separator: str) -> None:
    record = parse_record(5, f"leftover 9 x{separator}code 0{separator}dirty /x{separator}@/y\ncode 0\n", "")
    assert record.exit_code == 5
    assert len(record.leftovers) == 1
    assert record.dirty == ()


def test_what_was_left_besides_processes() -> None:
    text = (
        "name /tmp a b\nname /tmp .c\nleft /tmp 9\nname /dev/shm sem.x\nleft /dev/shm 1\n"
        "ipc shm 32768 4096\nipc sem 0 \nipc mqueue a b\n"
        "space /tmp 100 60 1000 991 4096\nspace /dev/shm 100 60\n"
    )
    record = parse_record(0, text, "")
    tmp, shm = record.places
    assert (tmp.place, tmp.entries, tmp.names) == ("/tmp", 9, ("a b", ".c"))
    assert (tmp.used_bytes, tmp.size_bytes, tmp.used_inodes, tmp.size_inodes) == (163840, 409600, 9, 1000)
    assert (shm.place, shm.entries, shm.names, shm.used_bytes, shm.size_inodes) == (
        "/dev/shm",
        1,
        ("sem.x",),
        None,
        None,
    )
    assert [(left.kind, left.name, left.amount) for left in record.ipc] == [
        ("shm", "32768", 4096),
        ("sem", "0", None),
        ("mqueue", "a b", None),
    ]


def test_leftovers_are_bounded() -> None:
    assert len(parse_record(0, "leftover 5 x\n" * 5000, "").leftovers) == MAX_LEFTOVERS


@given(st.text(), st.text())
def test_any_text_is_read_or_refused(text: str, reset: str) -> None:
    ended = parse_end(text)
    assert ended is None or 0 <= ended[0] <= 255
    assert parse_record(3, text, reset).exit_code == 3


@pytest.mark.parametrize(
    ("before", "left", "reset", "where"),
    [
        ("", "", "", None),
        ("", "leftover 3 sleep 9\ndirty processes\nleft /tmp 1\nname /tmp x\n", "dirty /tmp\n", None),
        ("", "space /tmp 1 2 3 4 5\nipc shm 0 4096\n", "@/sys/x\nanything 1\n", None),
        ("x", "", "", "before the first test: 'x'"),
        ("", "left /tmp 1\ncode 0\n", "", "after a test: 'code 0'"),
        ("", "", "dirty /tmp\nleft /tmp 1\n", "after the cleaning: 'left /tmp 1'"),
        ("", "", "x@/sys/x\n", "after the cleaning: 'x'"),
    ],
)
def test_what_the_agent_does_not_write_is_found(before: str, left: str, reset: str, where: str | None) -> None:
    assert unexpected(before, left, reset) == where


def test_counters_that_are_none_make_no_record() -> None:
    assert parse_end("code 0\n@/sys/x\n1\n") == (0, "@/sys/x\n1\n")
    assert parse_end("code 0\ncode 1\n@/sys/x\n1\n") is None
