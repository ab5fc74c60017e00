import os
from pathlib import Path

import pytest

from orchestrator.files import SpooledText, cache_folder, replace_file, write_atomically


def test_the_cache_is_where_the_user_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "orch"
    assert not cache_folder().exists(), "whoever writes there makes it"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/orch")


def test_a_file_has_its_permissions_whatever_it_had(tmp_path):
    path = tmp_path / "entry.json"
    path.write_text("old")
    path.chmod(0o644)
    replace_file(path, (b"in ", b"pieces"), mode=0o600)
    assert path.read_bytes() == b"in pieces"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="missing"):
        replace_file(tmp_path / "missing" / "entry.json", b"", mode=0o600)


def test_a_failed_write_keeps_the_old_report_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "report"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_an_os_error(tmp_path):
    (tmp_path / "report").mkdir()
    with pytest.raises(OSError, match="report"):
        write_atomically(tmp_path / "report", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "report", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o640


def test_a_long_name_is_no_problem(tmp_path):
    write_atomically(tmp_path / ("x" * 250), b"x")


def test_what_waits_is_read_as_often_as_it_is_wanted_and_more_can_follow(tmp_path):
    pieces = SpooledText(tmp_path)
    assert list(pieces.read()) == []
    pieces.add("né ")
    pieces.add("x" * 600_000)
    whole = "né ".encode() + b"x" * 600_000
    assert b"".join(pieces.read()) == b"".join(pieces.read()) == whole
    pieces.add("!")
    assert b"".join(pieces.read()) == whole + b"!"
    assert list(tmp_path.iterdir()) == [], "nobody has to remove it"


def test_what_waits_costs_a_descriptor_only_as_long_as_it_is_wanted(tmp_path):
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    pieces = SpooledText(tmp_path)
    assert len(list(descriptors.iterdir())) == before + 1
    del pieces
    assert len(list(descriptors.iterdir())) == before
