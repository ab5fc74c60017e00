"""Places and waits of a run, from the times of its attempts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.database.queries.runs import load_run
from orchestrator.model.evidence import Timings
from orchestrator.reports.html.svg import sparkline_path, steps_path, strokes_path
from orchestrator.reports.html.timeline import timeline
from tests.unit.database.database_examples import ATTESTATION, NOW, make_assignment, make_run
from tests.unit.database.database_examples import make_result as result_of

TIMES = (("a", "1", 0.5, 2), ("b", "2", 0.5, 1), ("c", "2", 1.6, 4), ("d", "3", 3, 1))
"""(test, container, start, length): b and c share a container, d takes a's place in another."""


@pytest.fixture
def record(tmp_path):
    from dataclasses import replace

    from orchestrator.database.store.store import Database

    with Database.open(None, state_dir=tmp_path) as db:
        run = make_run()
        db.begin_run(run, [])
        for name, container, start, length in TIMES:
            result = result_of(
                run,
                assignment=make_assignment(run, f"test/{name}"),
                started_at=NOW + timedelta(seconds=start),
                test_seconds=length,
                attestation=replace(ATTESTATION, container_name=container),
            )
            evidence = result.attempts[0].evidence
            timings = Timings(queue_seconds=start - 0.1, start_seconds=0.1, test_seconds=length)
            attempt = replace(result.attempts[0], evidence=replace(evidence, timings=timings))
            db.record(run.id, replace(result, attempts=(attempt,)))
        yield load_run(db, run.id)


def test_containers_take_as_few_places_as_they_need(record):
    drawn = timeline(record)
    assert drawn.lanes == 2
    lanes = {block.attempt.test_id.path[-1]: block.lane for block in drawn.blocks}
    assert lanes["b"] == lanes["c"]
    assert lanes["d"] == lanes["a"]
    assert drawn.seconds == pytest.approx(5.6)
    assert drawn.busy_ratio == pytest.approx(8 / 11.2)
    assert drawn.last.test_id.path == "test/c"


def test_who_waited_for_whom(record):
    drawn = timeline(record)
    freed = {b.attempt.test_id.path[-1]: b.freed_by.test_id.path[-1] for b in drawn.blocks if b.freed_by}
    assert freed == {"c": "b", "d": "a"}
    assert [b.attempt.test_id.path[-1] for b in drawn.waits] == ["d", "c"]
    assert drawn.waiting_most == 4


def test_the_tail_is_when_half_of_the_places_have_nothing_to_do(record):
    assert timeline(record).tail_seconds == pytest.approx(1.6)


def test_no_attempts_no_timeline(record):
    from dataclasses import replace

    assert timeline(replace(record, attempts=())) is None


def test_strokes_are_relative_on_a_line_and_absolute_on_the_next():
    assert strokes_path([(0, 8, 2), (3, 8, 0.1), (1, 24, 2.25)]) == "M0 8h2m1 0h0.6M1 24h2.2"


def test_steps_hold_until_the_next():
    assert steps_path([(0, 10), (4, 20)], end=9, base=40) == "M0 40H0V10H4V20H9V40z"
    assert steps_path([], end=9, base=40) == ""


def test_a_spark_needs_two_values_and_keeps_the_highest_of_many():
    assert sparkline_path([1.0]) == ""
    assert sparkline_path([0.0, 5.0]) == "M0 17L72 2"
    many = [1.0] * 500 + [9.0] + [1.0] * 500
    assert " 2" in sparkline_path(many)
    assert sparkline_path(many).count("L") == 23
