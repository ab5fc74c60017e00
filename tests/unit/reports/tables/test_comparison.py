from __future__ import annotations

import pytest

from orchestrator.model.evidence import SlotUse, Timings
from orchestrator.model.outcomes import Outcome
from orchestrator.model.stored import AttemptRow
from orchestrator.model.tests import TestId
from orchestrator.reports.tables.comparison import comparison_table
from orchestrator.reports.tables.render import render


@pytest.fixture
def recorded(build):
    return AttemptRow(
        id="i",
        run_id=build.run.id,
        test_id=TestId(path="test/test_parse.py"),
        suite="unit",
        repetition=1,
        attempt=1,
        profile="standard",
        reason="default",
        outcome=Outcome.OOM,
        message="killed",
        exit_code=137,
        signal=9,
        witnesses=2,
        slot=SlotUse(),
        started_at=build.started,
        timings=Timings(test_seconds=2.0),
        limits=build.limits(),
        usage=build.usage(peak=100 << 20, cpu=0.5, throttled_seconds=None),
        attestation=None,
        stdout_bytes=100,
        stdout_kept_bytes=100,
        stderr_bytes=0,
        stderr_kept_bytes=0,
        outputs_count=0,
        violations=(build.violation(kind="memory-over"), build.violation(kind="memory-over")),
        final=True,
    )


def test_figures_stand_beside_each_other_with_their_change(build, recorded):
    now = build.attempt(usage=build.usage(peak=150 << 20, cpu=None), seconds=1.0, stdout=b"x" * 150)
    lines = render(comparison_table(recorded, now), "table").splitlines()
    assert lines[0].split() == ["recorded", "now", "change"]
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "outcome oom passed differs",
        "exit code 137 0 differs",
        "duration 2.000s 1.000s -50 %",
        "cpu 0.500s ?",
        "memory peak 100M 150M +50 %",
        "pids peak 3 3 ±0 %",
        "oom kills 0 0 ±0 %",
        "output 100B 150B +50 %",
        "violations memory-over none differs",
    ]


def test_the_same_again_is_the_same(build, recorded):
    now = build.attempt(outcome="oom", exit_code=137, violations=recorded.violations)
    lines = render(comparison_table(recorded, now), "table").splitlines()
    assert [line.split()[-1] for line in lines if line.startswith(("outcome", "exit", "violations"))] == [
        "same"
    ] * 3
