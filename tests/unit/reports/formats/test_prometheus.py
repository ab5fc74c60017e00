"""The text file for Prometheus, read back by prometheus-client's own parser."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.database.queries.nightly import nightly
from orchestrator.database.store.store import Database
from orchestrator.model.resources import Resource
from orchestrator.reports.formats.prometheus import prometheus_text
from tests.support.nights import make_nights

if TYPE_CHECKING:
    from orchestrator.model.nightly import Nightly

END = datetime(2026, 3, 1, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Nightly:
    with Database.open(None, state_dir=tmp_path_factory.mktemp("prom")) as db:
        make_nights(db, tests=40, nights=3, end=END, hostile=True)
        return nightly(db, since=END - timedelta(hours=24), until=END, orch_version="0.1.0")


def families(report: Nightly):
    return {f.name: f.samples for f in text_string_to_metric_families(prometheus_text(report).decode())}


def test_another_parser_reads_what_the_report_knows(night):
    found = families(night)
    outcomes = {s.labels["outcome"]: s.value for s in found["orch_tests"]}
    assert sum(outcomes.values()) == len(night.tests) == 40
    assert outcomes["failed"] == sum(t.outcome.value == "failed" for t in night.tests) > 0
    assert found["orch_new_failures"][0].value == sum(t.newly_failing for t in night.tests) == 1
    assert found["orch_attempts_cpu_seconds"][0].value == pytest.approx(night.cost.cpu_seconds)
    assert {s.labels["project"] for samples in found.values() for s in samples} == {"warehouse"}


def test_only_the_worst_tests_have_series_and_their_names_are_bounded(night):
    worst = families(night)["orch_worst_memory_peak_bytes"]
    assert len(worst) == 10
    assert [s.value for s in worst] == sorted((s.value for s in worst), reverse=True)
    assert all(len(s.labels["test"]) < 400 for s in worst)


def test_a_lower_bound_is_marked(night):
    top = max(night.tests, key=lambda test: test.maximum(Resource.MEMORY) or 0)
    bounded = tuple(
        replace(attempt, usage=replace(attempt.usage, memory_peak_is_lower_bound=True)) for attempt in top.attempts
    )
    tests = tuple(replace(test, attempts=bounded) if test is top else test for test in night.tests)
    worst = families(replace(night, tests=tests))["orch_worst_memory_peak_bytes"]
    assert [sample.labels["bound"] for sample in worst] == ["lower"] + [""] * 9


def test_a_night_without_runs_has_no_project_and_no_figures_of_tests(tmp_path):
    with Database.open(None, state_dir=tmp_path) as db:
        found = families(nightly(db, since=END - timedelta(hours=24), until=END, orch_version="0"))
    assert found["orch_runs"][0].value == 0
    assert found["orch_worst_cpu_seconds"] == []
    assert "orch_attempts_cpu_seconds" not in found
    assert "orch_new_failures" not in found
