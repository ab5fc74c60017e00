"""Which recorded attempt `RUN:TEST` means."""

from __future__ import annotations

import pytest

from orchestrator.commands.repro import find_attempt
from orchestrator.database.queries.runs import load_run
from orchestrator.database.store.store import Database
from orchestrator.errors import NothingFoundError, UsageError
from orchestrator.model.outcomes import Outcome
from tests.unit.database.database_examples import finish, make_assignment, make_result, make_run


@pytest.fixture
def record(tmp_path):
    run = make_run()
    with Database.open(None, state_dir=tmp_path) as database:
        database.begin_run(run, [])
        for path, repetition, outcome in (
            ("test/test_parse.py", 1, Outcome.PASSED),
            ("test/test_parse.py", 2, Outcome.FAILED),
            ("test/test_parse.py", 3, Outcome.FAILED),
            ("test/deep/test_oom.py", 1, Outcome.OOM),
            ("test/test_child_oom.py", 1, Outcome.PASSED),
            ("test_child_oom.py", 1, Outcome.PASSED),
        ):
            assignment = make_assignment(run, path, repetition=repetition)
            database.record(run.id, make_result(run, outcome=outcome, assignment=assignment))
        with_case = make_assignment(run, "test/test_case.py", case="test_one")
        database.record(run.id, make_result(run, assignment=with_case))
        finish(database, run)
        return load_run(database, run.id[:4])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("test/test_parse.py", "test/test_parse.py"),
        ("test_parse.py", "test/test_parse.py"),
        ("parse.py", "test/test_parse.py"),
        ("deep/test_oom.py", "test/deep/test_oom.py"),
        ("test_oom.py", "test/deep/test_oom.py"),
        ("test_child_oom.py", "test_child_oom.py"),
        ("test_case.py::test_one", "test/test_case.py::test_one"),
        ("::test_one", "test/test_case.py::test_one"),
    ],
)
def test_a_test_is_named_by_its_id_or_the_end_of_it(record, name, found):
    assert str(find_attempt(record, name).test_id) == found


def test_of_several_repetitions_the_first_that_did_not_pass_is_meant(record):
    attempt = find_attempt(record, "test_parse.py")
    assert (attempt.outcome, attempt.repetition) == (Outcome.FAILED, 2)


def test_an_end_that_several_tests_have_is_refused_with_their_names(record):
    with pytest.raises(UsageError, match=r"several tests: test/deep/test_oom\.py, test/test_child_oom\.py, "):
        find_attempt(record, "oom.py")


def test_a_test_that_did_not_run_is_not_found(record):
    with pytest.raises(NothingFoundError, match=r"has no test 'test_gone\.py'"):
        find_attempt(record, "test_gone.py")
