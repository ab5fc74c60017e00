from dataclasses import replace

from orchestrator.database.files.sqlite_file import FileKind, companion, has_log, is_readable_in_place, read_header
from orchestrator.database.store.store import Database
from tests.support.handmade import plain_sqlite


def test_a_database_is_settled_when_all_of_it_is_in_its_file(tmp_path):
    Database.open(None, state_dir=tmp_path).close()
    path = tmp_path / "resources.db"
    header = read_header(path)
    assert is_readable_in_place(path, header)
    assert is_readable_in_place(path, header, even_empty=True)
    assert not is_readable_in_place(path, replace(header, version=header.version - 1))
    assert not is_readable_in_place(path, replace(header, cut_short=True))
    companion(path, "-wal").touch()
    assert is_readable_in_place(path, header), "an empty log holds nothing"
    assert not is_readable_in_place(path, header, even_empty=True), "but a run may be about to write to it"
    companion(path, "-wal").write_bytes(b"x")
    assert not is_readable_in_place(path, header)
    companion(path, "-wal").unlink()
    companion(path, "-journal").touch()
    assert not is_readable_in_place(path, header)


def test_a_run_s_log_is_seen_and_what_is_not_ours_is_not_settled(tmp_path):
    with Database.open(None, state_dir=tmp_path):
        assert has_log(tmp_path / "resources.db", even_empty=True)
    assert not has_log(tmp_path / "resources.db", even_empty=True)
    with plain_sqlite(tmp_path / "other.db") as other:
        other.execute("create table t (x)")
    header = read_header(tmp_path / "other.db")
    assert header.kind is FileKind.FOREIGN
    assert not is_readable_in_place(tmp_path / "other.db", header)
    assert not is_readable_in_place(tmp_path / "none.db", read_header(tmp_path / "none.db"))
