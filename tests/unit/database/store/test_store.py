from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from orchestrator.database.queries.runs import load_run, load_samples
from orchestrator.database.schema.tables import metadata
from orchestrator.database.store.store import BATCH_RESULTS, Database
from orchestrator.errors import DatabaseError, UsageError
from orchestrator.model.evidence import OutputLog
from orchestrator.model.outcomes import Outcome
from orchestrator.model.results import TestResult, Verb
from orchestrator.model.runs import RunStatus
from orchestrator.model.tests import Command, Test, TestId
from tests.unit.database.database_examples import (
    LEDGER,
    NOW,
    days_ago,
    finish,
    make_assignment,
    make_attempt,
    make_result,
    make_run,
    make_usage,
)


def rows(database, sql):
    with database.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def everything(database):
    with database.reading() as connection:
        return {t.name: sorted(map(repr, connection.execute(t.select()).all())) for t in metadata.sorted_tables}


def test_a_run_comes_back_as_it_was_recorded(database):
    run = make_run()
    assignment = make_assignment(run, "test/test_a.py", case="TestX::test_y[1]", clamped=("cpus lowered to 2",))
    first = make_attempt(assignment, Outcome.FAILED, exit_code=None, signal=11, cases=(), violations=())
    second = make_attempt(replace(assignment, attempt=2))
    database.begin_run(run, [assignment], owner="me")
    assert database.record(
        run.id, TestResult(attempts=(first, second), outcome=Outcome.PASSED, verb=Verb.FLAKY, flaky=True)
    )
    finish(database, run)

    record = load_run(database, run.short_id)
    stored = record.run
    same = "id started_at argv project config_digest orch_version engine host images revision branch dirty"
    for name in same.split():
        assert getattr(stored, name) == getattr(run, name), name
    assert (stored.status, stored.exit_code, stored.duration_seconds) == (RunStatus.FINISHED, 0, 1.5)
    assert stored.counts["tests"] == stored.counts["passed"] == stored.counts["flaky"] == 1
    assert stored.counts["violations"] == 1
    assert record.ledger == LEDGER
    assert record.not_run == ()
    assert [a.attempt for a in record.attempts] == [1, 2]
    for original, row in zip((first, second), record.attempts, strict=True):
        evidence = original.evidence
        assert row.test_id == assignment.test.id
        assert row.limits == assignment.profile.limits
        assert row.usage == evidence.usage
        assert row.timings == evidence.timings
        assert row.attestation == evidence.attestation
        assert row.started_at == evidence.started_at
        assert row.cases == original.cases
        assert row.violations == original.violations
        assert row.clamped == ("cpus lowered to 2",)
        assert (row.exit_code, row.signal, row.outcome) == (
            original.exit_code,
            original.signal,
            original.outcome,
        )
        assert (row.stdout_bytes, row.stdout_kept_bytes, row.stderr_bytes, row.outputs_count) == (
            2000,
            1000,
            3,
            1,
        )
        assert load_samples(database, row.id) == evidence.samples
        assert row.samples_count == len(evidence.samples)
    assert [(a.final, a.verb, a.flaky) for a in record.attempts] == [
        (False, None, None),
        (True, Verb.FLAKY, True),
    ]


def test_a_second_record_of_the_same_changes_nothing(database):
    run = make_run()
    database.begin_run(run, [make_assignment(run)])
    assert database.record(run.id, make_result(run)) is True
    before = everything(database)
    assert database.record(run.id, make_result(run, outcome=Outcome.FAILED)) is False
    late = make_assignment(run, attempt=2)
    assert database.record(run.id, make_result(run, assignment=late)) is False, (
        "one final attempt for each repetition"
    )
    assert everything(database) == before


def test_each_repetition_has_a_result_of_its_own(database):
    run = make_run()
    plan = [make_assignment(run, repetition=n) for n in (1, 2, 3)]
    database.begin_run(run, plan)
    for assignment in plan[:2]:
        assert database.record(run.id, make_result(run, assignment=assignment))
    record = load_run(database, "latest")
    assert [a.repetition for a in record.final_attempts] == [1, 2]
    assert record.not_run == (TestId(path="test/test_a.py"),)
    assert record.run.planned_tests == 3
    assert record.run.counts["tests"] == 2, "a running run is counted as it stands"


def test_an_unmeasured_figure_is_null_and_not_zero(database):
    run = make_run()
    database.begin_run(run, [])
    usage = make_usage(cpu_seconds=None, memory_peak_bytes=None, sources={}, missing={"cpu_seconds": "no cgroup"})
    database.record(run.id, make_result(run, usage=usage, attestation=None, samples=()))
    assert rows(database, "SELECT cpu_seconds, memory_peak_bytes, oom_kills, container_name FROM attempts") == [
        (None, None, 0, None)
    ]
    (attempt,) = load_run(database, "latest").attempts
    assert attempt.usage == usage
    assert attempt.attestation is None
    assert load_samples(database, attempt.id) == ()


def test_no_value_of_an_environment_variable_is_stored(tmp_path):
    canary = "s3cr3t-canary-value"
    run = make_run(argv=("orch", "run", "--db", f"postgresql://me:{canary}@host/db", f"API_TOKEN={canary}"))
    command = Command(argv=("sh", "x"), env={"API_TOKEN": canary, "PLAIN": canary})
    test = Test(id=TestId(path="x.sh"), suite="shell", command=command)
    with Database.open(None, state_dir=tmp_path) as database:
        assignment = replace(make_assignment(run), test=test)
        database.begin_run(run, [assignment])
        database.record(run.id, make_result(run, assignment=assignment))
        finish(database, run)
        stored = load_run(database, "latest").run.argv
    assert stored[3:] == ("postgresql://me:***@host/db", "API_TOKEN=***")
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or canary.encode() not in file.read_bytes()


def test_hostile_text_is_stored_and_bounded(database):
    run = make_run()
    path = "test/a\udcff\0b.py"
    database.begin_run(run, [make_assignment(run, path)])
    database.record(run.id, make_result(run, path, Outcome.FAILED, message="m" * 10_000_000))
    (attempt,) = load_run(database, "latest").attempts
    assert attempt.test_id.path == "test/a\\udcff\\x00b.py"
    assert len(attempt.message) < 70_000
    assert load_run(database, "latest").not_run == ()


def test_runs_of_dead_owners_become_interrupted_at_open(open_database):
    alive, dead, nameless = make_run(), make_run(), make_run()
    with open_database() as database:
        database.begin_run(alive, [], owner="alive")
        database.begin_run(dead, [], owner="dead")
        database.begin_run(nameless, [])
        database.record(dead.id, make_result(dead))
    with open_database() as database:
        assert load_run(database, dead.id).run.status is RunStatus.RUNNING, "nobody was asked"
    with open_database(owner_alive=lambda token: token == "alive") as database:
        assert load_run(database, alive.id).run.status is RunStatus.RUNNING
        assert load_run(database, dead.id).run.status is RunStatus.INTERRUPTED
        assert load_run(database, dead.id).run.counts["passed"] == 1
        assert load_run(database, nameless.id).run.status is RunStatus.INTERRUPTED


def test_recording_into_a_run_that_never_began_is_refused(database):
    with pytest.raises(DatabaseError, match="never begun"):
        database.record("no-such-run", make_result(make_run()))


def test_history_knows_the_last_passes_only(database):
    run = make_run()
    database.begin_run(run, [])
    for number in range(1, 31):  # repetition n passed n hours ago in n seconds: the last 20 took 1 to 20
        assignment = make_assignment(run, repetition=number)
        usage = make_usage(memory_peak_bytes=number * 1000, cpu_seconds=number / 2)
        result = make_result(
            run,
            assignment=assignment,
            usage=usage,
            test_seconds=float(number),
            started_at=days_ago(number / 24),
        )
        database.record(run.id, result)
    failed = make_assignment(run, repetition=31)
    database.record(run.id, make_result(run, assignment=failed, outcome=Outcome.FAILED, test_seconds=999.0))
    known = TestId(path="test/test_a.py")
    (entry,) = database.history([known, TestId(path="other.py")]).values()
    assert (entry.attempts, entry.duration_seconds_p95, entry.memory_bytes_p95) == (20, 19.0, 19_000)
    assert entry.cpus_p95 == pytest.approx(0.5)
    assert entry.last_outcome is Outcome.FAILED
    assert database.history([known], project="demo") == {known: entry}
    assert database.history([known], project="another") == {}


def test_history_forgets_after_thirty_days_and_needs_a_pass(database):
    run = make_run()
    database.begin_run(run, [])
    database.record(run.id, make_result(run, "old.py", started_at=days_ago(31)))
    database.record(run.id, make_result(run, "bad.py", Outcome.FAILED))
    database.record(
        run.id, make_result(run, "blind.py", usage=make_usage(cpu_seconds=None, memory_peak_bytes=None))
    )
    known = database.history([TestId(path=p) for p in ("old.py", "bad.py", "blind.py")])
    assert list(known) == [TestId(path="blind.py")]
    entry = known[TestId(path="blind.py")]
    assert (entry.memory_bytes_p95, entry.cpus_p95) == (None, None)


@dataclass(frozen=True)
class Retention:
    records_days: int
    rollups_days: int = 1200
    samples_days: int = 90
    samples_full_days: int = 7


@pytest.mark.parametrize(("records_days", "left"), [(30, {"young", "week", "month"}), (1, {"young", "week"})])
def test_prune_keeps_what_is_younger_and_never_less_than_a_week(database, records_days, left):
    ages = {"young": 0.1, "week": 6.9, "month": 8, "year": 365}
    for branch, age in ages.items():
        run = make_run(started_at=days_ago(age), branch=branch)
        database.begin_run(run, [])
        database.record(run.id, make_result(run, f"test/{branch}.py"))
        finish(database, run)
    assert database.prune(Retention(records_days)) == len(ages) - len(left)
    assert {branch for (branch,) in rows(database, "SELECT branch FROM runs")} == left
    for table in ("attempts", "samples", "ledger", "images", "violations", "tests"):
        assert rows(database, f"SELECT count(*) FROM {table}") == [(len(left),)], table
    again = make_run(branch="year")
    database.begin_run(again, [])
    assert database.record(again.id, make_result(again, "test/year.py")), "a forgotten test can come back"


def test_an_existing_database_opens_without_alembic(tmp_path):
    import subprocess
    import sys

    with Database.open(None, state_dir=tmp_path):
        pass
    program = (
        "import sys; from pathlib import Path; from orchestrator.database.store.store import Database\n"
        f"Database.open(None, state_dir=Path({str(tmp_path)!r})).close()\n"
        "assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_report_rows_does_not_import_sqlalchemy():
    import subprocess
    import sys

    program = "import sys, orchestrator.model.stored; assert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["other.db", "./other", "{folder}/deep/other.sqlite"])
def test_a_path_names_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    with Database.open(name.format(folder=tmp_path), state_dir=tmp_path / "state") as database:
        assert database.path == tmp_path / name.format(folder=tmp_path)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:", "mysql://x/y"])
def test_impossible_urls_are_usage_errors(tmp_path, url):
    with pytest.raises(UsageError) as caught:
        Database.open(url, state_dir=tmp_path)
    assert "sqlite:////" in str(caught.value.remedy)


def test_the_pragmas_hold_on_every_connection(sqlite_database):
    with sqlite_database.reading() as first, sqlite_database.reading() as second:
        for connection in (first, second):
            values = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
            ]
            assert values == ["wal", 1, 60_000, 1]


def test_output_sizes_and_times_are_stored_in_the_open(database):
    run = make_run()
    database.begin_run(run, [])
    log = OutputLog(path=None, total_bytes=10, kept_bytes=4, tail=b"")
    database.record(run.id, make_result(run, stdout=log))
    ((started_at, total, kept),) = rows(
        database, "SELECT cast(started_at AS text), stdout_bytes, stdout_kept_bytes FROM attempts"
    )
    assert (total, kept) == (10, 4)
    assert datetime.fromisoformat(started_at).replace(tzinfo=UTC) == NOW


def test_results_recorded_soon_are_the_same_rows(tmp_path):
    run = make_run()
    results = [make_result(run, f"test/{n}.py") for n in range(2 * BATCH_RESULTS + 3)]
    dumps = []
    for name in ("record", "record_soon"):
        with Database.open(None, state_dir=tmp_path / name) as database:
            database.begin_run(run, [])
            for result in results:
                getattr(database, name)(run.id, result)
            assert len(load_run(database, run.id).final_attempts) == len(results), "reading stores what waits"
            finish(database, run)
            dumps.append({table: sorted(rows(database, f"SELECT * FROM {table}")) for table in TABLES})
    assert dumps[0] == dumps[1]


TABLES = ("tests", "attempts", "cases", "violations", "samples", "fact_sheets")


def committed(database):
    """Return the number of attempts that another process sees; `reading` would first store the waiting ones."""
    with database._opened.engine.connect() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar()


def test_passes_wait_for_their_batch_and_a_failure_for_nothing(database):
    run = make_run()
    database.begin_run(run, [])
    database.record_soon(run.id, make_result(run, "a.py"))
    assert committed(database) == 0
    database.record_soon(run.id, make_result(run, "b.py", outcome=Outcome.FAILED))
    assert committed(database) == 2
    for number in range(BATCH_RESULTS):
        database.record_soon(run.id, make_result(run, f"{number}.py"))
    assert committed(database) == 2 + BATCH_RESULTS


def test_a_result_that_is_there_already_does_not_harm_its_batch(database):
    run = make_run()
    database.begin_run(run, [])
    assert database.record(run.id, make_result(run, "a.py"))
    for name in ("b.py", "a.py", "c.py"):
        database.record_soon(run.id, make_result(run, name))
    finish(database, run)
    paths = sorted(a.test_id.path for a in load_run(database, run.id).final_attempts)
    assert paths == ["a.py", "b.py", "c.py"]
