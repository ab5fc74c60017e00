from pathlib import Path

import pytest

from orchestrator.files import cache_folder, replace_file


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
