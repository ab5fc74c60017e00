from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.evidence import SlotUse
from orchestrator.model.outcomes import Outcome
from orchestrator.model.resources import Resource
from orchestrator.model.runs import RunStatus
from orchestrator.model.stored import (
    AttemptRow,
    OffenderRow,
    OutcomeChange,
    RunDiff,
    RunRow,
    UsageChange,
    UsageRow,
)
from orchestrator.model.tests import TestId
from orchestrator.reports.tables import render as tables
from orchestrator.reports.tables import usage
from orchestrator.reports.tables.csv_output import csv_text, guarded
from orchestrator.reports.tables.table import Column, Figure, Table, escaped, table_text
from orchestrator.text import cells


def offender(build, name="test/test_index.py", **changes):
    fields = {
        "rank": 1,
        "by": Resource.MEMORY,
        "value": float(512 << 20),
        "test_id": TestId(path=name),
        "suite": "unit",
        "profile": "standard",
        "outcome": Outcome.OOM,
        "memory_peak_bytes": 512 << 20,
        "memory_peak_is_upper_bound": False,
        "limit_memory_bytes": 512 << 20,
        "memory_ratio": 1.0,
        "cpu_seconds": 1.7,
        "duration_seconds": 1.902,
        "attempts": 3,
        "run_id": build.run.id,
        "attempt_id": "a",
        "started_at": build.started,
    }
    return OffenderRow(**{**fields, **changes})


def run_row(build, **changes):
    run = build.run
    fields = {
        "id": run.id,
        "started_at": run.started_at,
        "status": RunStatus.FINISHED,
        "argv": run.argv,
        "project": run.project,
        "project_id": run.project_id,
        "config_digest": "d",
        "orch_version": "0.1.0",
        "engine": run.engine,
        "host": run.host,
        "counts": {
            "tests": 14,
            "passed": 12,
            "failed": 1,
            "oom": 1,
            "timeout": 0,
            "flaky": 1,
            "violations": 3,
        },
        "exit_code": 1,
        "duration_seconds": 12.4,
    }
    return RunRow(**{**fields, **changes})


def words(line):
    return " ".join(line.split())


def text(*found, **options):
    return tables.render(found, "table", **options)


def test_offenders_for_people(build):
    rows = [offender(build), offender(build, "a.py", rank=2, memory_peak_bytes=None, memory_ratio=None)]
    lines = text(usage.offenders_table(rows)).splitlines()
    assert (
        words(lines[0])
        == "# test profile outcome memory shared limit of limit cpu duration p95 memory attempts run"
    )
    assert words(lines[1]) == "1 test/test_index.py standard oom 512M ? 512M 100 % 1.700s 1.902s ? 3 b0b38ba7"
    assert lines[2].split()[4] == "?"


def test_json_has_raw_figures_and_null(build):
    rows = [offender(build, cpu_seconds=None)]
    document = json.loads(tables.render(usage.offenders_table(rows), "json"))
    assert document["schema"] == 1
    (row,) = document["offenders"]
    assert row["memory_peak_bytes"] == 512 << 20
    assert row["cpu_seconds"] is None
    assert row["run"] == "b0b38ba7"


def test_csv_has_raw_figures_and_guards_formulas(build):
    rendered = tables.render(usage.offenders_table([offender(build, "=cmd()|x", cpu_seconds=None)]), "csv")
    (row,) = csv.DictReader(io.StringIO(rendered, newline=""))
    assert row["test"] == "'=cmd()|x"
    assert row["memory_peak_bytes"] == str(512 << 20)
    assert row["cpu_seconds"] == ""


def test_markdown_aligns_numbers_right(build):
    lines = tables.render(usage.offenders_table([offender(build)]), "markdown").splitlines()
    assert lines[1].startswith("| --: | :-- | :-- | :-- | --: |")
    assert r"| test/test\_index.py | standard | oom | 512M |" in lines[2]


def test_usage_keeps_each_rows_unit():
    rows = [
        UsageRow(
            test_id=TestId(path="a.py"),
            resource=name,
            unit=unit,
            count=5,
            maximum=4.0,
            mean=2.0,
            p50=2,
            p95=3,
            p99=4,
        )
        for name, unit in (("memory_peak", "bytes"), ("duration", "seconds"), ("memory_ratio", "ratio"))
    ]
    lines = text(usage.usage_table(rows)).splitlines()
    assert [line.split()[4] for line in lines[1:]] == ["4B", "4.000s", "400"]


def test_runs_count_every_bad_end_as_failed(build):
    lines = text(tables.runs_table([run_row(build), run_row(build, exit_code=None, counts={})])).splitlines()
    assert words(lines[1]) == "b0b38ba7 2025-11-21T09:30Z finished 1 12.4s 14 12 2 1 3 docker 20.10.24+dfsg1"
    assert lines[2].split()[3:10] == ["?", "12.4s", *"?????"]


def test_attempts_of_a_run(build):
    result = build.result("a.py", "failed", message="exit code 1")
    attempt = result.final
    row = AttemptRow(
        id="i",
        run_id=build.run.id,
        test_id=TestId(path="a.py", case="x"),
        suite="unit",
        repetition=1,
        attempt=2,
        profile="standard",
        reason="default",
        outcome=attempt.outcome,
        message=attempt.message,
        exit_code=1,
        signal=None,
        witnesses=2,
        slot=SlotUse(),
        started_at=build.started,
        timings=attempt.evidence.timings,
        limits=build.limits(),
        usage=build.usage(),
        attestation=None,
        stdout_bytes=0,
        stdout_kept_bytes=0,
        stderr_bytes=0,
        stderr_kept_bytes=0,
        outputs_count=0,
        final=True,
    )
    line = text(tables.attempts_table([row])).splitlines()[1]
    stages = "0.500s <1ms <1ms <1ms"
    assert words(line) == f"a.py::x 2 standard failed 0.412s 61M ? 512M 0.300s 0 {stages} exit code 1"


def test_a_diff_shows_outcomes_usage_and_one_sided_tests(build):
    before, after = run_row(build), run_row(build, id="c1c2c3c4-0")
    first, second = TestId(path="a.py"), TestId(path="b.py")
    diff = RunDiff(
        before=before,
        after=after,
        outcome_changes=(
            OutcomeChange(test_id=first, before=Outcome.PASSED, after=Outcome.OOM, message="killed"),
        ),
        usage_changes=(
            UsageChange(test_id=first, resource="memory_peak", unit="bytes", before=1 << 20, after=3 << 20),
        ),
        only_after=(second,),
    )
    shown = text(*tables.diff_tables(diff))
    assert "outcome changes:\ntest  b0b38ba7  c1c2c3c4  message\na.py  passed    oom       killed\n" in shown
    assert words(shown.splitlines()[6]) == "a.py memory_peak bytes 1M 3M 300 %"
    assert shown.endswith("in one run only:\ntest  run\nb.py  c1c2c3c4\n")
    document = json.loads(tables.render(tables.diff_tables(diff), "json"))
    assert document["usage_changes"][0]["after"] == 3 << 20
    nothing = RunDiff(before=before, after=after)
    assert "no outcome changed\n" in text(*tables.diff_tables(nothing))
    assert json.loads(tables.render(tables.diff_tables(nothing), "json"))["outcome_changes"] == []


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_a_narrow_terminal_shortens_the_test_and_keeps_the_figures(build, columns):
    name = "test/" + "very/" * 30 + "test_index.py"
    bound = offender(build, name, memory_peak_is_upper_bound=True)
    for found in (tables.runs_table([run_row(build)]), usage.offenders_table([bound])):
        lines = text(found, columns=columns).splitlines()
        assert all(cells(line) <= columns for line in lines)
    assert "  ≤512M  " in lines[1]
    assert "  100 %  1.700s    1.902s" in lines[1]
    assert ("b0b38ba7" in lines[1]) == (columns > 105)


def test_an_unknown_format_is_refused(build):
    with pytest.raises(ValueError, match="xml"):
        tables.render(usage.offenders_table([]), "xml")


# ---------------------------------------------------------------- hostile text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"])
def test_formulas_are_quoted(name):
    assert guarded(name).startswith("'")


@pytest.mark.parametrize("name", ["test/a.py", "a=b", "1-2"])
def test_other_text_is_not(name):
    assert guarded(name) == name


def test_numbers_are_no_formulas():
    table = Table(name="x", columns=(Column(key="n", title="n"),), rows=((Figure(-1.5, "count"),),))
    assert csv_text(table) == "n\r\n-1.5\r\n"


@given(st.lists(st.text(st.characters()), min_size=1, max_size=4))
def test_any_text_comes_back_from_csv_in_its_cell_and_is_no_formula(names):
    table = Table(
        name="x",
        columns=(Column(key="t", title="t"), Column(key="u", title="u")),
        rows=tuple((n, n) for n in names),
    )
    rows = list(csv.reader(io.StringIO(csv_text(table), newline="")))[1:]
    assert [row[0] for row in rows] == [guarded(name) for name in names]
    assert not any(cell[:1] in "=+-@\t\r\n" and cell for row in rows for cell in row)


def test_markup_is_escaped():
    assert escaped("a|b`c`<script>&") == r"a\|b\`c\`&lt;script\&gt;&amp;".replace(r"\&gt;", "&gt;")
    assert escaped("**x** [a](b) ~~y~~ $z$") == r"\*\*x\*\* \[a\](b) \~\~y\~\~ \$z\$"
    assert escaped("a\nb\r") == r"a\nb".replace("\\", "\\\\")
    assert escaped("@team #12") == "@<!-- -->team #<!-- -->12"
    assert escaped("see https://x.y or www.x.y") == "see https:<!-- -->//x.y or w<!-- -->ww.x.y"


@given(st.text(st.characters()))
def test_a_row_of_markdown_is_one_line_with_its_two_cells(name):
    table = Table(
        name="x",
        columns=(Column(key="t", title="t"), Column(key="n", title="n")),
        rows=((name, Figure(1, "count")),),
    )
    lines = table_text(table).split("\n")
    assert len(lines) == 4
    assert lines[2].replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_a_bound_is_marked_in_every_format():
    """CASES B3: `≤9` for people, the marker beside the raw value for programs."""
    column = Column(key="pids", title="pids", bounded=True)
    rows = ((Figure(9, "count", True),), (Figure(9, "count"),), (Figure(1, "seconds", False, True),))
    table = Table(name="t", columns=(column,), rows=rows)
    assert [line.strip() for line in text(table).splitlines()] == ["pids", "≤9", "9", "≥1.000s"]
    assert [row["pids_bound"] for row in tables.raw_rows(table)] == ["<=", "", ">="]
    assert csv_text(table).splitlines() == ["pids,pids_bound", "9,<=", "9,", "1,>="]
