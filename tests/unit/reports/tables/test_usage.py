from __future__ import annotations

import csv
import io
import json

import pytest

from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.stored import OffenderRow, UsageRow
from orchestrator.model.tests import TestId
from orchestrator.reports.tables import render as tables
from orchestrator.reports.tables import usage
from orchestrator.text import cells


def row(name="test/test_a.py", resource=Resource.MEMORY, maximum=4.0, **changes):
    fields = {"count": 40, "mean": 2.0, "p50": 3.0, "p95": 4.0, "p99": 4.0, "history": (1.0, 2.0, 4.0), **changes}
    return UsageRow(
        test_id=TestId(path=name), resource=resource.key, unit=resource.unit, maximum=maximum, **fields
    )


def headlines(name="test/test_a.py", **changes):
    return [row(name, resource, **changes) for resource in usage.WIDE]


def test_there_is_one_row_a_test_with_trends():
    rows = [
        row(maximum=64 << 20, p95=61 << 20, before_count=34, before_p50=2.0),
        row(resource=Resource.CPU, maximum=0.5, before_count=34, before_p50=6.0),
        row(resource=Resource.DURATION, maximum=1.5, before_count=2, before_p50=1.0),
    ]
    head, line = tables.render(usage.wide_table(rows), "table").splitlines()
    assert head.split() == (
        "test runs before max memory p95 trend history max cpu p95 trend max time p95".split()  # noqa: SIM905
    )
    assert line.split() == (
        "test/test_a.py 40 34 64M 61M +50 % ▃▅█ 0.500s 4.000s -50 % 1.500s 4.000s".split()  # noqa: SIM905
    )


def test_figures_that_were_not_measured_are_unknown_not_zero():
    _, line = tables.render(usage.wide_table([row(resource=Resource.DURATION)]), "table").splitlines()
    assert line.split()[2] == "?"


@pytest.mark.parametrize(
    ("counts", "median", "trend"),
    [((3, 3), 2.0, 0.5), ((2, 3), 2.0, None), ((3, 2), 2.0, None), ((9, 9), 0.0, None), ((9, 0), None, None)],
)
def test_no_trend_rests_on_fewer_than_three_attempts(counts, median, trend):
    assert row(count=counts[0], before_count=counts[1], before_p50=median).trend == trend


@pytest.mark.parametrize("columns", [80, 100, 120])
@pytest.mark.parametrize("of", [usage.wide_table, usage.usage_table])
def test_tables_fit_the_terminal(columns, of):
    name = "test/" + "very/" * 30 + "test_index.py"
    rows = [
        row(name, resource, maximum=m_, before_count=34, before_p50=2.5, history=(1.0,) * 12)
        for resource, m_ in zip(usage.WIDE, (1023 << 20, 99.9, 3599.0), strict=True)
    ]
    lines = tables.render(of(rows), "table", columns=columns).splitlines()
    assert all(cells(line) <= columns for line in lines)
    assert "trend" in lines[0]
    assert ("████████████" in lines[1]) == (of is usage.wide_table or columns >= 100)


def test_one_resource_shows_every_figure_in_eighty_columns():
    name = "test/" + "very/" * 30 + "test_index.py"
    rows = [row(name, maximum=1023 << 20, mean=1023 << 20, p50=1023 << 20, before_count=34, before_p50=1 << 20)]
    head, line = tables.render(usage.usage_table(rows), "table", columns=80).splitlines()
    assert cells(line) <= 80
    assert head.split()[:8] == ["test", "runs", "max", "mean", "p50", "p95", "p99", "trend"]


def test_programs_get_every_figure_of_every_resource():
    rows = [row(before_count=34, before_p50=2.0)]
    (found,) = json.loads(tables.render(usage.usage_table(rows), "json"))["usage"]
    assert found == {
        "test": "test/test_a.py",
        "resource": "memory_peak",
        "unit": "bytes",
        "count": 40,
        "maximum": 4.0,
        "mean": 2.0,
        "p50": 3.0,
        "p95": 4.0,
        "p99": 4.0,
        "trend": 0.5,
        "before_count": 34,
        "before_p50": 2.0,
        "history": [1.0, 2.0, 4.0],
    }
    text = tables.render(usage.usage_table(rows), "csv")
    assert next(csv.DictReader(io.StringIO(text, newline="")))["history"] == "1.0 2.0 4.0"


def test_an_offender_by_another_resource_shows_its_figure(build):
    figures = row(resource=Resource.PIDS, maximum=120.0, p95=100.0, before_count=5, before_p50=2.0)
    offender = OffenderRow(
        rank=1,
        by=Resource.PIDS,
        value=120.0,
        test_id=TestId(path="a.py"),
        suite="unit",
        profile="standard",
        outcome=Outcome.PASSED,
        memory_peak_bytes=None,
        memory_peak_is_upper_bound=False,
        limit_memory_bytes=512 << 20,
        memory_ratio=None,
        cpu_seconds=None,
        duration_seconds=1.0,
        attempts=40,
        run_id=build.run.id,
        attempt_id="a",
        started_at=build.started,
        usage=figures,
    )
    head, line = tables.render(usage.offenders_table([offender]), "table", columns=200).splitlines()
    words = (
        "# test profile outcome pids trend history memory shared limit of limit cpu duration p95 pids attempts run"
    )
    assert head.split() == words.split()
    assert line.split()[4:8] == ["120", "+50", "%", "▃▅█"]
    document = json.loads(tables.render(usage.offenders_table([offender]), "json"))
    assert document["offenders"][0]["pids"] == 120.0
