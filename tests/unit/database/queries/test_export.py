import json

from orchestrator.database.queries.export import export_run
from orchestrator.model.runs import RunStatus
from tests.unit.database.database_examples import (
    finish,
    make_assignment,
    make_result,
    make_run,
)

MIB = 2**20


def test_an_export_is_plain_json(database):
    run = make_run()
    database.begin_run(run, [make_assignment(run), make_assignment(run, "never.py")])
    database.record(run.id, make_result(run))
    finish(database, run, RunStatus.INTERRUPTED, 130)
    document = export_run(database, "latest", samples=True)
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == 1
    assert document["run"]["status"] == "interrupted"
    assert document["not_run"] == ["never.py"]
    assert document["ledger"]["left"] == ["container x"]
    (test,) = document["tests"]
    assert test["usage"]["memory_peak_bytes"] == 61 * MIB
    assert test["usage"]["source"]["cpu_seconds"] == "kernel"
    assert test["violations"][0]["kind"] == "memory-near"
    assert len(test["attempts"][0]["samples"]) == 5
