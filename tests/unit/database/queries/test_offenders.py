import pytest

from orchestrator.database.queries.offenders import offenders
from orchestrator.model.outcomes import Outcome
from tests.support.handmade import plain_sqlite
from tests.unit.database.database_examples import (
    days_ago,
    make_run,
    record_usage,
)

MIB = 2**20


@pytest.fixture
def run(database):
    run = make_run()
    database.begin_run(run, [])
    return run


def paths(rows):
    return [row.test_id.path for row in rows]


def test_offenders_are_ranked_by_each_figure(database, run):
    record_usage(database, run, "memory.py", memory_mib=500, cpu=1, seconds=1)
    record_usage(database, run, "cpu.py", memory_mib=10, cpu=9, seconds=5)
    record_usage(database, run, "slow.py", memory_mib=20, cpu=2, seconds=9)
    record_usage(database, run, "blind.py", memory_mib=None, cpu=None, seconds=0.1)
    assert paths(offenders(database, by="memory")) == ["memory.py", "slow.py", "cpu.py"]
    assert paths(offenders(database, by="cpu", limit=2)) == ["cpu.py", "slow.py"]
    assert paths(offenders(database, by="duration")) == ["slow.py", "cpu.py", "memory.py", "blind.py"]
    (worst,) = offenders(database, by="memory-ratio", limit=1)
    assert worst.value == worst.memory_ratio == pytest.approx(500 / 512)
    assert (worst.rank, worst.memory_peak_bytes, worst.limit_memory_bytes) == (1, 500 * MIB, 512 * MIB)


def test_a_test_offends_once_by_its_worst_attempt_within_the_window(database, run):
    record_usage(database, run, "a.py", memory_mib=300, age=10)
    record_usage(database, run, "a.py", memory_mib=100, age=1, repetition=2)
    record_usage(database, run, "a.py", memory_mib=50, age=0, repetition=3)
    record_usage(database, run, "a.py", memory_mib=400, age=0, repetition=4, outcome=Outcome.INFRA)
    (ever,) = offenders(database)
    assert (ever.memory_peak_bytes, ever.attempts) == (300 * MIB, 3)
    (lately,) = offenders(database, since=days_ago(7))
    assert (lately.memory_peak_bytes, lately.attempts, lately.started_at) == (100 * MIB, 2, days_ago(1))
    assert offenders(database, since=days_ago(-1)) == ()


def test_the_window_queries_read_only_the_index_of_figures(sqlite_database):
    run = make_run()
    sqlite_database.begin_run(run, [])
    record_usage(sqlite_database, run, "a.py")
    with plain_sqlite(sqlite_database.path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT test_id, max(memory_peak_bytes) FROM attempts"
            " WHERE outcome NOT IN ('infra') GROUP BY test_id"
        ).fetchall()
    assert "COVERING INDEX ix_attempts_figures" in plan[0][3]
