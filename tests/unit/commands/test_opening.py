"""A report's database: opened, and Python's collector of cycles at rest meanwhile."""

import gc

import pytest

from orchestrator.commands.opening import opened_for_report
from orchestrator.commands.session import load
from orchestrator.database import queries


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load(None, {"database": str(tmp_path / "a.db")})


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_rests_while_a_report_reads_and_is_then_as_before(config, collects):
    (gc.enable if collects else gc.disable)()
    try:
        with opened_for_report(config) as db:
            assert not gc.isenabled()
            assert queries.list_runs(db) == ()
        assert gc.isenabled() is collects
        with pytest.raises(ZeroDivisionError), opened_for_report(config):
            raise ZeroDivisionError
        assert gc.isenabled() is collects
    finally:
        gc.enable()


def test_a_question_that_nobody_answers_is_no_attribute():
    assert {getattr(queries, name).__name__ for name in queries.__all__} == set(queries.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        queries.nonsense  # noqa: B018 - that is the question
