from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.engine.agent.artifacts import LIST_BYTES, MAX_NOTES, ArchiveSink

if TYPE_CHECKING:
    from pathlib import Path

CAP = 100_000
NOT_PACKED = "not packed: it is no regular file, or lies behind what was cut off"


def member(name: str, content: bytes = b"x", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def archive(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.GNU_FORMAT) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=kind, errors="surrogateescape") as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return held.getvalue()


def extract(data: bytes, folder: Path, cap: int = CAP, listed: str = "") -> tuple[tuple[str, ...], str]:
    sink = ArchiveSink(cap)
    for start in range(0, len(data), 1000):
        sink.feed(data[start : start + 1000])
    names, notes = sink.extract(folder, cap, listed)
    sink.close()
    return names, "\n".join(notes)


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_nothing_makes_no_folder(tmp_path: Path) -> None:
    assert extract(b"", tmp_path / "outputs") == ((), "")
    assert extract(archive(member("d", b"", type=tarfile.DIRTYPE)), tmp_path / "outputs") == ((), "")
    assert not (tmp_path / "outputs").exists()


def test_regular_files_come_back_with_folders(tmp_path: Path) -> None:
    data = archive(member("./a", b"one"), member("./b/c d", b"\0\xff"), member("empty", b""), member("-x"))
    assert extract(data, tmp_path / "o") == (("-x", "a", "b/c d", "empty"), "")
    assert (tmp_path / "o" / "a").read_bytes() == b"one"
    assert (tmp_path / "o" / "b" / "c d").read_bytes() == b"\0\xff"


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE],
)
def test_other_kinds_touch_nothing(tmp_path: Path, kind: bytes) -> None:
    odd = member("odd", b"", type=kind, linkname="/etc/shadow")
    names, notes = extract(archive(odd, member("good")), tmp_path / "o")
    assert "good" in names
    assert everything(tmp_path / "o") == set(names)
    assert all(path.is_file() and not path.is_symlink() for path in (tmp_path / "o").iterdir())
    why = "another name of a file that did not come back" if kind == tarfile.LNKTYPE else "not a regular file"
    assert kind == tarfile.CONTTYPE or f"'odd': {why}" in notes


def test_a_hard_link_comes_back_as_a_copy(tmp_path: Path) -> None:
    """CASES D9."""
    link = member("./b/two", b"", type=tarfile.LNKTYPE, linkname="./one")
    early = member("early", b"", type=tarfile.LNKTYPE, linkname="later")
    names, notes = extract(archive(member("./one", b"1" * 60), link, early, member("later")), tmp_path / "o")
    assert (names, notes) == (("b/two", "later", "one"), "'early': another name of a file that did not come back")
    assert (tmp_path / "o/b/two").read_bytes() == b"1" * 60
    assert (tmp_path / "o/b/two").stat().st_nlink == 1
    many = [member(f"./l{n}", b"", type=tarfile.LNKTYPE, linkname="./one") for n in range(9)]
    names, notes = extract(archive(member("./one", b"1" * 60), *many), tmp_path / "p", cap=200)
    assert (names, notes.count("over the cap")) == (("l0", "l1", "one"), 7)


def test_archives_may_follow_each_other(tmp_path: Path) -> None:
    data = archive(member("./a")) + bytes(5120) + archive(member("./b")) + archive(member("./c")) + bytes(512)
    assert extract(data, tmp_path / "o") == (("a", "b", "c"), "")
    names, notes = extract(archive(member("./a")) + b"noise" * 200, tmp_path / "p")
    assert names == ("a",)
    assert "damaged" in notes


def test_what_was_to_be_packed_and_is_not_there_is_named(tmp_path: Path) -> None:
    """CASES D9: too large, left out by tar (a socket, a file that could not be read), or cut off."""
    odd, raw = "new\nline", "not\udcffutf"
    listed = "./a\n./new\nline\n./not\ufffdutf\n./m_sparse\n./socket\n./fifo\n./last\n\n//\n./m_sparse\n"
    data = archive(
        member("./a"), member(f"./{odd}"), member(f"./{raw}"), member("./fifo", b"", type=tarfile.FIFOTYPE)
    )
    names, notes = extract(data, tmp_path / "o", listed=listed)
    assert set(names) == {"a", odd, raw}
    assert notes.split("\n") == [
        "'fifo': not a regular file",
        f"'m_sparse': larger than the {CAP} bytes that may come back",
        f"'socket': {NOT_PACKED}",
        f"'last': {NOT_PACKED}",
    ]
    assert extract(b"", tmp_path / "p", listed="./socket\n") == ((), f"'socket': {NOT_PACKED}")


def test_a_file_that_was_cut_off_is_named_and_no_part_of_it_kept(tmp_path: Path) -> None:
    whole = archive(member("./a"), member("./b", b"b" * 5000), member("./c"))
    names, notes = extract(whole[:4000], tmp_path / "o", listed="./a\n./b\n./c\n")
    assert names == ("a",)
    assert everything(tmp_path / "o") == {"a"}
    assert f"'b': {NOT_PACKED}\n'c': {NOT_PACKED}" in notes


def test_names_beyond_the_notes_are_counted(tmp_path: Path) -> None:
    listed = "".join(f"./{number}\n" for number in range(MAX_NOTES + 7))
    _, notes = extract(b"", tmp_path / "o", listed=listed)
    assert notes.split("\n")[-1] == "7 more did not come back"
    long = "".join(f"./{number:0100}\n" for number in range(4000))[:LIST_BYTES]
    packed = archive(*(member(f"./{number:0100}") for number in range(4000)))
    _, notes = extract(packed, tmp_path / "p", cap=10_000_000, listed=long)
    assert notes == ""


def test_a_link_is_not_followed_by_what_comes_after_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = member("d", b"", type=tarfile.SYMTYPE, linkname=str(outside))
    names, _ = extract(archive(link, member("d/file")), tmp_path / "o")
    assert names == ("d/file",)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "./../x", "a//x", "a/./x", "..", "././x"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    names, notes = extract(archive(member(name), member("good")), tmp_path / "deep" / "o")
    assert names == ("good",)
    assert "leads out" in notes
    assert everything(tmp_path) == {"deep/o/good"}


def test_names_that_are_odd_but_harmless(tmp_path: Path) -> None:
    odd = ["a\nnewline", "quote'\"", "<script>", "=cmd()", "bad-\udcff-utf8", "x" * 255, "...", "a\\b"]
    names, notes = extract(archive(*(member(name) for name in odd)), tmp_path / "o")
    assert set(names) == set(odd)
    assert notes == ""
    assert {path.name for path in (tmp_path / "o").iterdir()} == set(odd)


def test_names_that_are_too_long(tmp_path: Path) -> None:
    long = ["y" * 256, "/".join(["z" * 200] * 6), "é" * 200]
    names, notes = extract(archive(*(member(name) for name in long), member("good")), tmp_path / "o")
    assert names == ("good",)
    assert notes.count("too long") == 3


def test_clashing_names_lose_only_themselves(tmp_path: Path) -> None:
    data = archive(
        member("a", b"1"), member("a", b"2"), member("a/b"), member("d/e"), member("d", b"4"), member("last")
    )
    names, notes = extract(data, tmp_path / "o")
    assert names == ("a", "d/e", "last")
    assert (tmp_path / "o" / "a").read_bytes() == b"1"
    assert notes.count("another file has its name") == 3


def test_what_is_over_the_cap_stays_out(tmp_path: Path) -> None:
    data = archive(member("a", b"x" * 600), member("b", b"y" * 600), member("c", b"z" * 400))
    names, notes = extract(data, tmp_path / "o", cap=1000)
    assert names == ("a", "c")
    assert "'b': over the cap" in notes


def test_a_giant_file_of_holes(tmp_path: Path) -> None:
    info, _ = member("holes", b"", size=1 << 40)
    data = archive(member("first"))[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(50_000)
    names, notes = extract(data, tmp_path / "o")
    assert names == ("first",)
    assert "'holes': over the cap" in notes
    assert "damaged" in notes


def test_a_sparse_file(tmp_path: Path) -> None:
    info, _ = member("s", b"", type=tarfile.GNUTYPE_SPARSE)
    names, notes = extract(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024), tmp_path / "o")
    assert names == ()
    assert "sparse" in notes or "damaged" in notes


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, b"g", b"x", b"L"])
def test_a_negative_size_ends(tmp_path: Path, kind: bytes) -> None:
    info, _ = member("n", b"", size=-1024, type=kind)
    data = archive(member("first"))[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    names, notes = extract(data, tmp_path / "o")
    assert names in (("first",), ())
    assert "damaged" in notes or kind in (tarfile.SYMTYPE, tarfile.DIRTYPE)


def test_a_negative_size_in_an_extended_header_ends(tmp_path: Path) -> None:
    info, content = member("p", b"abc")
    info.pax_headers = {"size": "-512"}
    names, notes = extract(archive((info, content), kind=tarfile.PAX_FORMAT), tmp_path / "o")
    assert names == ()
    assert "damaged" in notes


def test_headers_in_headers(tmp_path: Path) -> None:
    """tarfile recurses once for each long-name header."""
    info, _ = member("././@LongLink", b"", type=tarfile.GNUTYPE_LONGNAME, size=2)
    block = info.tobuf(tarfile.GNU_FORMAT) + b"x\0".ljust(512, b"\0")
    _, notes = extract(archive(member("first"))[:1024] + block * 3000 + bytes(1024), tmp_path / "o", cap=10 << 20)
    assert "damaged" in notes


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    data = archive(member("a", b"1" * 700), member("b", b"2" * 700))
    for end in range(1, 2 * (512 + 1024), 128):
        folder = tmp_path / str(end)
        names, notes = extract(data[:end], folder)
        assert "damaged" in notes, end
        assert set(names) <= {"a", "b"}
    assert extract(data, tmp_path / "whole") == (("a", "b"), "")


def test_noise(tmp_path: Path) -> None:
    assert "damaged" in extract(b"not a tar archive" * 100, tmp_path / "o")[1]
    assert not (tmp_path / "o").exists()


def test_an_archive_larger_than_its_cap_is_cut(tmp_path: Path) -> None:
    sink = ArchiveSink(1000)
    for _ in range(300):
        sink.feed(bytes(100_000))
    assert sink.overflow
    assert sink.size < 12 << 20
    assert "larger than their place" in sink.extract(tmp_path / "o", 1000)[1][0]
    sink.close()


def test_notes_are_bounded(tmp_path: Path) -> None:
    data = archive(*(member(f"l{n}", b"", type=tarfile.SYMTYPE, linkname="x") for n in range(500)))
    assert extract(data, tmp_path / "o")[1].count("\n") == MAX_NOTES


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    names, notes = extract(archive(member("a")), tmp_path / "file" / "o")
    assert names == ()
    assert "name" in notes or "could not be kept" in notes


NAMES = st.sampled_from(["a", "a/b", "./a", "..", "/abs", "x\n", "d/../../e", "ü", "q" * 300])
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(NAMES, KINDS, st.binary(max_size=700)), max_size=5), st.data())
def test_any_archive_with_any_damage_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, bytes]], data: st.DataObject
) -> None:
    made = bytearray(
        archive(*(member(n, c if k == tarfile.REGTYPE else b"", type=k, linkname="../up") for n, k, c in members))
    )
    for _ in range(data.draw(st.integers(0, 4))):
        made[data.draw(st.integers(0, min(len(made), 4096) - 1))] = data.draw(st.integers(0, 255))
    base = tmp_path_factory.mktemp("any")
    names, _ = extract(bytes(made), base / "in" / "o")
    inside = everything(base)
    assert {path.removeprefix("in/o/") for path in inside} == set(names)
    assert all(path.startswith("in/o/") for path in inside)
    assert not any(path.is_symlink() for path in base.rglob("*"))
