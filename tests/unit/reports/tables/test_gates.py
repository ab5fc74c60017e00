"""Annotations of GitHub, from names that want to be something else."""

import json

from orchestrator.model.regression import Comparison, GateRow, Judgement
from orchestrator.model.tests import TestId
from orchestrator.reports.formats.github import check_annotations
from orchestrator.reports.tables.gates import gates_table, sentence
from orchestrator.reports.tables.render import render


def row(path="test/a.py", growth=0.16):
    comparison = Comparison(
        judgement=Judgement.GROWN,
        before=60 * 2**20,
        now=70 * 2**20,
        growth=growth,
        noise_floor=0.02,
        chance=1e-6,
        old_runs=50,
        new_runs=1,
    )
    return GateRow(
        test_id=TestId(path=path), resource="memory", unit="bytes", tolerance=0.1, comparison=comparison
    )


def test_a_sentence_has_all_that_matters():
    assert sentence(row()) == "memory grew by +16 %, from 60M to 70M (+10 % is allowed; 1 run against 50)"


def test_no_name_can_be_a_command_of_its_own():
    (line,) = check_annotations([row("a\n::error::b,title=x:%0A.py")], [])
    assert line.startswith(
        "::error file=a\\n%3A%3Aerror%3A%3Ab%2Ctitle=x%3A%250A.py,title=orch check%3A memory +16 %25::a\\n"
    )
    assert "\n" not in line


def test_github_shows_ten_of_a_kind():
    lines = check_annotations([row(f"{n}.py") for n in range(13)], [row()])
    assert [line[:8] for line in lines] == ["::error "] * 10 + ["::error "] + ["::warnin"]
    assert lines[10] == "::error title=orch check::+3 more"


def test_raw_figures_stay_in_json_and_csv():
    table = gates_table([row()])
    (told,) = json.loads(render(table, "json"))["gates"]
    assert told["chance"] == 1e-06
    assert (
        render(table, "csv")
        .splitlines()[1]
        .startswith("grown,test/a.py,memory,62914560,73400320,0.16,0.1,0.02,1e-06")
    )
    assert "by chance" not in render(table, "table")
    assert render(gates_table([]), "table") == "no gate is broken\n"
