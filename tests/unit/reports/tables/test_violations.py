from __future__ import annotations

import csv
import io
import json
from datetime import timedelta

import pytest

from orchestrator.model.outcomes import Outcome
from orchestrator.model.stored import ViolationRow
from orchestrator.model.tests import TestId
from orchestrator.model.violations import ViolationKind
from orchestrator.reports.formats.violation_help import rule_name, rule_text
from orchestrator.reports.tables.render import render
from orchestrator.reports.tables.violations import RunViolations, violation_groups, violations_table
from tests.unit.reports.conftest import told


@pytest.fixture
def broken(build):
    def make(name="a.py", *, kind="memory-near", severity="warning", measured=1.0, attempt="1", days=0):
        violation = build.violation(kind=kind, severity=severity)
        return ViolationRow(
            run_id=f"{attempt}0000000-run",
            attempt_id=f"{attempt}-{name}",
            test_id=TestId(path=name),
            profile="standard",
            outcome=Outcome.PASSED,
            started_at=build.started + timedelta(days=days),
            violation=build.replace(violation, measured=measured),
        )

    return make


def test_the_same_trouble_is_counted_and_its_worst_shown(broken):
    seen = [
        broken(measured=5.0, attempt="1"),
        broken(measured=9.0, attempt="2", days=1),
        broken(measured=7.0, attempt="3", days=2),
        broken(measured=1.0, severity="error", attempt="4", days=1),
    ]
    (found,) = violation_groups(seen)
    assert (found.times, found.worst, found.last_at) == (4, seen[3], seen[2].started_at)
    (without_error,) = violation_groups(seen[:3])
    assert without_error.worst.violation.measured == 9.0


def test_two_of_a_kind_in_one_attempt_stay_apart(broken):
    flood = broken(kind="output-flood")
    assert [(t.times, t.ordinal) for t in violation_groups([flood, flood])] == [(1, 0), (1, 1)]


def test_the_gravest_come_first_then_the_most_frequent(broken):
    seen = [
        broken("z.py", severity="notice"),
        *(broken("often.py", attempt=str(n)) for n in range(3)),
        broken("b.py"),
        broken("a.py"),
        broken("y.py", severity="error"),
    ]
    assert [t.worst.test_id.path for t in violation_groups(seen)] == ["y.py", "often.py", "a.py", "b.py", "z.py"]


def test_a_run_that_just_ended_says_the_same_as_its_record(build):
    result = build.result("a.py", violations=(build.violation(), build.violation(kind="process-leak")))
    found = told(RunViolations(), result, build.result("b.py")).found
    assert [(b.test_id.path, b.violation.kind.value) for b in found] == [
        ("a.py", "child-oom"),
        ("a.py", "process-leak"),
    ]
    assert {(b.run_id, b.profile, b.attempt_id) for b in found} == {(build.run.id, "standard", result.final.id)}


def test_the_table_in_each_format(broken):
    table = violations_table(violation_groups([broken("=a|b.py", kind="child-oom", severity="error")]))
    line = render(table, "table").splitlines()[1]
    assert line.split()[:3] == ["error", "child-oom", "=a|b.py"]
    (document,) = json.loads(render(table, "json"))["violations"]
    assert document["kind"] == "child-oom"
    assert (document["measured"], document["limit"], document["unit"], document["times"]) == (1.0, 0.0, "count", 1)
    (row,) = csv.DictReader(io.StringIO(render(table, "csv"), newline=""))
    assert row["test"] == "'=a|b.py"
    assert r"| error | child-oom | =a\|b.py |" in render(table, "markdown")
    assert render(violations_table([]), "table") == "no violations\n"


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal(broken, columns):
    table = violations_table(violation_groups([broken("test/" + "very/" * 30 + "a.py", kind="cpu-throttled")]))
    lines = render(table, "table", columns=columns).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].split()[0] == "severity"
    assert lines[0].split()[-1] == "message"


@pytest.mark.parametrize("kind", [*(kind.value for kind in ViolationKind), "a-kind-of-tomorrow"])
def test_every_kind_has_words(kind):
    text = rule_text(kind)
    assert text.meaning.endswith(".")
    assert text.advice.endswith(".")
    assert rule_name(kind).isidentifier()
    assert rule_name(kind) != rule_name("process-leak") or kind == "process-leak"
    assert ("a kind of tomorrow" in text.meaning) == (kind == "a-kind-of-tomorrow")
