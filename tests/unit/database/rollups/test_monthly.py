"""Sums of months: nothing but their days, dropped when a day changes; reports say the same with and without."""

import random
import shutil
from datetime import date, timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.database.queries.usage import first_usage, usage_report
from orchestrator.database.rollups import daily, monthly, window_parts
from orchestrator.database.rollups.quantile_sketch import (
    SortedKeys,
    bucket,
    keys,
    keys_of,
    sketch,
    united,
    value_of,
)
from orchestrator.database.rollups.statistics import percentile
from orchestrator.database.schema.tables import monthly_usage, summed_months
from orchestrator.database.store.merge import merge
from orchestrator.database.store.store import Database
from orchestrator.model.outcomes import Outcome
from orchestrator.model.stored import Resource
from tests.unit.database.database_examples import days_ago
from tests.unit.database.rollups.test_daily import record
from tests.unit.database.store.test_store import Retention

LENGTH = 130
"""Days of history: four whole months at least are over."""


def months_of(database):
    with database.reading() as connection:
        there = connection.execute(sa.select(summed_months.c.month)).scalars().all()
        rows = connection.execute(sa.select(monthly_usage.c.month).distinct()).scalars().all()
    assert set(rows) <= set(there)
    return sorted(there)


def over(first, today):
    """Whole months from a day to another."""
    month, found = first if first.day == 1 else monthly_day(first), []
    while monthly_day(month) <= today:
        found.append(month.isoformat()[:7])
        month = monthly_day(month)
    return found


def monthly_day(day):
    """First day of the month after a day."""
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def forget_all(database):
    with database.writing() as engine, engine.begin() as connection:
        monthly.forget(connection, over(date(2020, 1, 1), daily.today()))
    assert months_of(database) == []


def filled(database, seed=1):
    chance = random.Random(seed)
    for day in range(LENGTH, -1, -3):
        measured = chance.random() > 0.2
        figures = [(chance.randrange(1, 300) if measured else None, chance.uniform(0.01, 9)) for _ in range(3)]
        record(database, day, *figures)
        record(database, day, (chance.randrange(5, 50), 0.5), path="b.py")
    record(database, 100, (700, 1.0), path="only.py", outcome=Outcome.FAILED)
    database.sum_up()


@pytest.mark.parametrize("since", [None, LENGTH + 5, LENGTH - 7, 95, 64, 40])
@pytest.mark.parametrize("until", [None, 0.5, 20, 33])
def test_reports_say_the_same_by_month_as_by_day(filled_database, since, until):
    database, by_day = filled_database
    window = {
        "since": None if since is None else days_ago(since),
        "until": None if until is None else days_ago(until),
        "resources": tuple(Resource),
    }
    with_months, without = usage_report(database, **window), usage_report(by_day, **window)
    assert [row.test_id for row in with_months] == [row.test_id for row in without]
    for one, other in zip(with_months, without, strict=True):
        assert one.mean == pytest.approx(other.mean, rel=1e-12)
        for name in (
            "resource",
            "unit",
            "count",
            "maximum",
            "p50",
            "p95",
            "p99",
            "before_count",
            "before_p50",
            "history",
        ):
            assert getattr(one, name) == getattr(other, name), name
    names = list(dict.fromkeys(row.test_id for row in with_months))
    shown, more = first_usage(database, sort="p95", limit=1, **window)
    assert {row.test_id for row in shown} <= set(names)
    assert more == len(names) - 1 > 0
    assert [row for row in with_months if row.test_id == shown[0].test_id] == list(shown)


@pytest.fixture(scope="module")
def filled_database(tmp_path_factory):
    """The same database with its months and without."""
    here, there = tmp_path_factory.mktemp("months"), tmp_path_factory.mktemp("days")
    with Database.open(None, state_dir=here) as database:
        filled(database)
    shutil.copy(here / "resources.db", there / "resources.db")
    with Database.open(None, state_dir=here) as database, Database.open(None, state_dir=there) as by_day:
        assert len(months_of(database)) >= 3
        forget_all(by_day)
        yield database, by_day


def test_months_that_are_over_are_put_together(database):
    filled(database)
    first = days_ago(LENGTH).date()
    assert months_of(database) == over(first, daily.today())


def test_the_end_of_a_run_puts_one_month_together(database):
    filled(database)
    whole = months_of(database)
    forget_all(database)
    record(database, 0, (10, 1.0))
    assert months_of(database) == whole[:1]


def test_a_day_that_comes_late_drops_its_month_and_no_other(database):
    filled(database)
    whole = months_of(database)
    middle = date.fromisoformat(f"{whole[1]}-15")
    late = (daily.today() - middle).days
    with database.writing() as engine, engine.begin() as connection:
        daily.store_most_complete(connection, middle.isoformat(), [])
    assert months_of(database) == whole, "nothing was better"
    record(database, late, (9999, 99.0))
    assert months_of(database) == whole, "put together again, since it was the only one due"
    (row,) = [
        row
        for row in usage_report(database, since=days_ago(LENGTH - 1), resources=(Resource.MEMORY,))
        if str(row.test_id) == "a.py"
    ]
    assert row.maximum == 9999 * 2**20


def test_a_merged_day_drops_its_month(open_database, tmp_path):
    with Database.open(None, state_dir=tmp_path / "shard") as shard:
        record(shard, 100, (5, 1.0), path="shard.py")
        shard.sum_up()
    with open_database() as database:
        filled(database)
        whole = months_of(database)
        merge(database, [tmp_path / "shard" / "resources.db"])
        database.sum_up()
        assert months_of(database) == whole
        rows = usage_report(database, since=days_ago(LENGTH), resources=(Resource.MEMORY,))
    assert "shard.py" in {str(row.test_id) for row in rows}


def test_what_retention_forgets_is_in_no_month(database):
    filled(database)
    whole = months_of(database)
    database.prune(Retention(30, rollups_days=70))
    assert months_of(database) == [month for month in whole if month > days_ago(70).date().isoformat()[:7]]
    database.sum_up()
    assert f"{days_ago(70).date().isoformat()[:7]}" not in months_of(database) or days_ago(70).day == 1


# ---------------------------------------------------------------- pieces


VALUES = st.lists(st.floats(min_value=1e-6, max_value=1e12) | st.just(0.0), max_size=40)


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_a_sketch_of_sketches_is_that_of_all_values(groups):
    everything = [value for group in groups for value in group]
    assert united([sketch(group) for group in groups]) == sketch(everything)


@given(st.lists(VALUES, min_size=1, max_size=6), VALUES, st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 1.0]))
def test_percentiles_of_keys_are_those_of_the_buckets(groups, loose, ratio):
    buckets = sorted(bucket(value) for group in (*groups, loose) for value in group)
    together = keys([sketch(group) for group in groups])
    together.extend(keys_of(loose))
    if buckets:
        ordered = SortedKeys(together)
        assert ordered.count == len(buckets)
        assert ordered.percentile(ratio) == value_of(percentile(buckets, ratio))


def test_percentiles_of_more_values_than_a_count_holds():
    together = keys([sketch([0.0] * 70_000 + [5.0] * 200_000 + [9.0] * 2_000)])
    ordered = SortedKeys(together)
    assert ordered.count == 272_000
    assert ordered.percentile(0.25) == 0.0
    assert ordered.percentile(0.5) == pytest.approx(5.0, rel=0.0005)
    assert ordered.percentile(0.999) == pytest.approx(9.0, rel=0.0005)


@given(st.lists(st.lists(st.floats(allow_nan=False)), max_size=4))
def test_maxima_come_back_in_their_order(groups):
    packed = [monthly.packed_maxima(group) for group in groups]
    assert list(monthly.maxima_of(packed)) == [value for group in groups for value in group]


def test_half_a_maximum_is_refused():
    with pytest.raises(ValueError, match="multiple of item size"):
        monthly.maxima_of([b"1234"])


@given(st.dates(date(2024, 1, 1), date(2027, 1, 1)), st.integers(1, 500), st.sets(st.integers(0, 36)))
def test_months_are_cut_out_whole(first, length, ready):
    last = first + timedelta(days=length)
    known = {f"{2024 + number // 12}-{number % 12 + 1:02}" for number in ready}
    part = window_parts.WindowPart(since=daily.midnight(first), until=daily.midnight(last), by_day=True)
    pieces = window_parts._in_months(part, known)
    assert pieces[0].since == part.since
    assert pieces[-1].until == part.until
    assert all(a.until == b.since and a.by_month != b.by_month for a, b in pairwise(pieces))
    inside = {month for month in over(first, last) if month in known}
    assert inside == {
        month for piece in pieces if piece.by_month for month in over(piece.since.date(), piece.until.date())
    }
    for piece in pieces:
        assert piece.by_day != piece.by_month
        if piece.by_month:
            assert piece.since.day == piece.until.day == 1
