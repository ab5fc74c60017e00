from dataclasses import replace

import pytest

from orchestrator.database.queries.startup import startup_seconds
from orchestrator.database.store.direct_read import read_directly
from orchestrator.database.store.history import read_startup_seconds
from orchestrator.model.evidence import SlotUse, Timings
from tests.unit.database.database_examples import make_assignment, make_result, make_run


def recorded(database, run, number, *, position, create, start):
    result = make_result(run, assignment=make_assignment(run, repetition=number))
    (attempt,) = result.attempts
    evidence = replace(
        attempt.evidence,
        slot=SlotUse(position=position),
        timings=Timings(create_seconds=create, start_seconds=start, test_seconds=1.0),
    )
    database.record(run.id, replace(result, attempts=(replace(attempt, evidence=evidence),)))


def test_only_fresh_containers_tell_what_one_costs(database):
    assert startup_seconds(database) is None
    run = make_run()
    database.begin_run(run, [])
    for number, (position, start) in enumerate([(1, 0.1), (2, 0.0), (3, 0.0), (1, 0.3), (1, 0.2)], 1):
        recorded(database, run, number, position=position, create=0.01, start=start)
    seconds, count = startup_seconds(database)
    assert seconds == pytest.approx(0.21)
    assert count == 3
    if (path := database.path) is not None:
        assert read_directly(path, read_startup_seconds, absent=()) is None, "it is open: its log may hold more"
        database.close()
        assert read_directly(path, read_startup_seconds, absent=()) == (seconds, count)
