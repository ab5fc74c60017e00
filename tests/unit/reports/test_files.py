from __future__ import annotations

import os

import pytest

from orchestrator.reports.files import write_atomically


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
