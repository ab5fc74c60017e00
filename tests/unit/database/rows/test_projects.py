"""Several projects share one database, and each query is answered as if the project were alone in it."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from orchestrator.database.queries.export import export_run
from orchestrator.database.queries.flaky import flaky_tests
from orchestrator.database.queries.nightly import nightly
from orchestrator.database.queries.observations import has_branch, observed, runs_up_to
from orchestrator.database.queries.offenders import offenders_by
from orchestrator.database.queries.projects import known_projects
from orchestrator.database.queries.runs import failed_tests, find_run, list_runs, load_run
from orchestrator.database.queries.usage import top_usage, usage_report
from orchestrator.database.queries.violations import load_violation_groups, load_violations
from orchestrator.database.rows.bundles import begin_bundle, result_bundle
from orchestrator.database.rows.projects import scope
from orchestrator.database.store.merge import merge
from orchestrator.database.store.spool import upgrade_bundle
from orchestrator.database.store.store import Database
from orchestrator.errors import NothingFoundError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.stored import ProjectRow
from orchestrator.model.tests import TestId
from tests.unit.database.database_examples import (
    NOW,
    VIOLATION,
    days_ago,
    finish,
    make_assignment,
    make_result,
    make_run,
    make_usage,
)

MIB = 1 << 20
AGES = (1, 2, 4, 9, 12, 50)


def runs_of(project, seed):
    """Record runs with tests whose names the other project has too."""
    chance = random.Random(seed)
    for age in AGES:
        run = make_run(project=project, started_at=days_ago(age), branch=f"of-{project}")
        results = []
        for name in ("a.py", "b.py", f"{project}.py"):
            outcome = chance.choice([Outcome.PASSED, Outcome.PASSED, Outcome.FAILED])
            results.append(
                make_result(
                    run,
                    outcome=outcome,
                    assignment=make_assignment(run, name),
                    usage=make_usage(memory_peak_bytes=chance.randrange(1, 400) * MIB),
                    started_at=run.started_at + timedelta(seconds=chance.randrange(100)),
                    violations=(replace(VIOLATION, measured=float(chance.randrange(1, 9))),),
                )
            )
        yield run, results


ONE, TWO = list(runs_of("one", 1)), list(runs_of("two", 2))


def record(database, past):
    for run, results in past:
        database.begin_run(run, [])
        for result in results:
            database.record(run.id, result)
        finish(database, run)


def answers(database, *, until=NOW):
    """Return the answers to all queries that a command makes without naming a run."""
    week, year = {"since": days_ago(7), "until": until}, {"since": None, "until": until}
    found = {}
    for name, window in (("week", week), ("year", year)):
        found[name] = [
            usage_report(database, **window, resources=tuple(Resource)),
            top_usage(database, **window, limit=2, sort="maximum"),
            offenders_by(database, tuple(Resource), **window),
            load_violations(database, **window),
            load_violation_groups(database, **window, limit=10),
            flaky_tests(database, **window),
            replace(nightly(database, **window, orch_version="x"), made_at=NOW),
        ]
    latest = find_run(database, "latest")
    found["runs"] = [
        list_runs(database),
        load_run(database, "latest"),
        failed_tests(database, "latest"),
        export_run(database, "latest"),
        observed(database, since=days_ago(30)),
        observed(database, since=None, at_most=2),
        runs_up_to(database, latest, branch=latest.branch, limit=9),
        load_violations(database, run="latest"),
    ]
    return found


@pytest.mark.parametrize("summed", [False, True])
def test_each_is_answered_as_if_it_were_alone(open_database, tmp_path, summed):
    with open_database() as shared:
        record(shared, ONE)
        record(shared, TWO)
        for project, past in (("one", ONE), ("two", TWO)):
            with Database.open(None, state_dir=tmp_path / project) as alone:
                record(alone, past)
                if summed:
                    alone.sum_up()
                    shared.sum_up()
                shared.project = alone.project = project
                expected, got = answers(alone), answers(shared)
                for question, answer in expected.items():
                    for number, (one, other) in enumerate(zip(answer, got[question], strict=True)):
                        assert other == one, (question, number)
        shared.project = None
        assert len(list_runs(shared)) == 2 * len(AGES)


def test_a_run_is_found_by_its_id_whoever_it_belongs_to(database):
    record(database, ONE)
    record(database, TWO)
    database.project = "one"
    run = TWO[0][0]
    assert find_run(database, run.id[:8]).project == "two"
    assert {a.test_id for a in load_run(database, run.id).attempts} >= {TestId(path="two.py")}
    assert has_branch(database, "two", "of-two")
    assert not has_branch(database, "one", "of-two")
    database.project = "three"
    with pytest.raises(NothingFoundError):
        find_run(database, "latest")


def test_the_only_project_is_shown_to_whoever_asks(database):
    with database.reading() as connection:
        assert scope(connection, "elsewhere") is None
    record(database, ONE)
    database.project = "elsewhere"
    assert len(list_runs(database)) == len(AGES)
    record(database, TWO)
    assert list_runs(database) == ()


def test_a_project_has_the_name_that_it_had_last(database):
    for age, name in ((3, "old"), (1, "new"), (2, "middle")):
        database.begin_run(make_run(project=name, project_id="id", started_at=days_ago(age)), [])
    assert known_projects(database) == (ProjectRow(id="id", name="new"),)
    with database.reading() as connection:
        overview = connection.execute(sa.text("SELECT DISTINCT project FROM runs_overview")).scalars().all()
    assert overview == ["new"]


@pytest.mark.parametrize("newer_first", [False, True])
def test_a_renamed_project_merged_from_two_databases_is_one(tmp_path, newer_first):
    files = []
    for age, name in ((3, "old"), (1, "new")):
        with Database.open(None, state_dir=tmp_path / name) as part:
            run = make_run(project=name, project_id="id", started_at=days_ago(age))
            record(part, [(run, [make_result(run, "a.py", started_at=days_ago(age))])])
            files.append(part.path)
    with Database.open(None, state_dir=tmp_path / "all") as database:
        merge(database, files[::-1] if newer_first else files)
        assert known_projects(database) == (ProjectRow(id="id", name="new"),)
        (row,) = usage_report(database, resources=(Resource.MEMORY,))
        assert row.count == 2


def test_a_project_of_which_nothing_is_left_is_forgotten(database):
    class Retention:
        records_days = rollups_days = samples_days = samples_full_days = 20

    record(database, [(make_run(project="gone", started_at=days_ago(40)), [])])
    record(database, ONE)
    database.prune(Retention)
    assert [project.id for project in known_projects(database)] == ["one"]


def test_what_was_spooled_before_projects_had_ids_is_of_the_project_of_that_name(database):
    run, (result, *_) = ONE[0]
    begin, ended = begin_bundle(run, [], None), result_bundle(run.id, run.project_id, result)
    tables = {name: rows for name, rows in begin.tables.items() if name != "projects"}
    tables["runs"] = [{k: v for k, v in row.items() if k != "project_id"} for row in tables["runs"]]
    tests = [
        {k.removesuffix("_id") if k == "project_id" else k: v for k, v in r.items()} for r in ended.tables["tests"]
    ]
    assert tests[0]["project"] == "one"
    assert upgrade_bundle(replace(begin, tables=tables)) == begin
    assert upgrade_bundle(replace(ended, tables={**ended.tables, "tests": tests})) == ended
    assert upgrade_bundle(begin) == begin
    assert upgrade_bundle(ended) == ended
