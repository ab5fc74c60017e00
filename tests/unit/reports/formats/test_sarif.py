from __future__ import annotations

import json
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orchestrator.model.violations import ViolationKind
from orchestrator.reports.formats import sarif
from orchestrator.reports.tables.violations import RunViolations
from tests.unit.reports.conftest import result, told, violation
from tests.unit.reports.sarif_shape import LOG

VALIDATOR = Draft202012Validator(LOG)


def document(*results, project="demo"):
    return sarif.sarif_document(told(RunViolations(), *results).groups(), project=project)


def check(found):
    VALIDATOR.validate(found)
    (run,) = found["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in run["results"])
    return run


def broken(name="test/test_parse.py", **changes):
    return result(name, violations=(violation(**changes),))


def test_nothing_broken_is_a_document_without_results():
    run = check(document(result("a.py")))
    assert run["results"] == run["tool"]["driver"]["rules"] == []


@pytest.mark.parametrize("kind", list(ViolationKind))
def test_every_kind_has_a_rule_with_help(kind):
    run = check(document(broken(kind=kind.value)))
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["id"] == kind.value
    assert len(rule["help"]["text"]) > 40


@pytest.mark.parametrize(("severity", "level"), [("error", "error"), ("warning", "warning"), ("notice", "note")])
def test_levels_follow_severities(severity, level):
    run = check(document(broken(severity=severity)))
    assert run["results"][0]["level"] == level
    assert run["tool"]["driver"]["rules"][0]["defaultConfiguration"]["level"] == level


def test_the_location_is_the_tests_file():
    (one,) = check(document(broken("test/a b/тест_é:1.py")))["results"]
    artifact = one["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact["uri"] == "test/a%20b/%D1%82%D0%B5%D1%81%D1%82_%C3%A9%3A1.py"
    assert one["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "test/a b/тест_é:1.py"


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.py", "a/../../b", "", "x" * 5000])
def test_what_is_no_path_in_the_project_gets_no_uri(path):
    assert sarif.relative_uri(path) == ""
    (one,) = check(document(broken(path)))["results"]
    assert "physicalLocation" not in one["locations"][0]


def test_a_fingerprint_outlives_the_figures_and_tells_tests_kinds_and_cases_apart():
    def fingerprints(*results):
        return [one["partialFingerprints"]["orchViolation/v1"] for one in document(*results)["runs"][0]["results"]]

    first = fingerprints(broken(message="61 MiB of 64 MiB"))
    assert first == fingerprints(broken(message="63 MiB of 64 MiB", severity="warning"))
    twice = result("test/test_parse.py", violations=(violation(), violation()))
    others = [
        *fingerprints(broken("test/other.py")),
        *fingerprints(broken(kind="process-leak")),
        *fingerprints(result("test/test_parse.py", violations=(violation(),), case="test_x")),
        fingerprints(twice)[1],
    ]
    assert fingerprints(twice)[0] == first[0]
    assert len({*first, *others}) == 5


def test_messages_hold_no_links_no_placeholders_and_no_control_characters():
    (one,) = check(document(broken("a.py", message="left {0} [x](http://evil) \x1b[31mred\u202e\n")))["results"]
    assert one["message"]["text"] == "a.py: left {{0}} [x] (http://evil) \\x1b[31mred\\u202e"


def test_sizes_are_bounded(monkeypatch):
    monkeypatch.setattr(sarif, "MAX_RESULTS", 3)
    run = check(document(*(broken(f"{n}.py", message="x" * 10_000_000) for n in range(5)), project="p" * 10**6))
    assert len(run["results"]) == 3
    assert run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"].startswith("2 more results")
    assert len(json.dumps(run)) < 30_000


@given(st.text(st.characters(exclude_categories=())), st.text(), st.text())
def test_any_name_and_message_make_a_valid_document(name, message, project):
    found = document(broken(name, message=message), project=project)
    run = check(json.loads(json.dumps(found)))
    location = run["results"][0]["locations"][0]
    if "physicalLocation" in location and not any("\ud800" <= char <= "\udfff" for char in name):
        assert unquote_to_bytes(location["physicalLocation"]["artifactLocation"]["uri"]) == name.encode()


def test_a_file_name_that_is_no_utf8_is_named_by_its_bytes():
    assert sarif.relative_uri(b"a\xff.py".decode("utf-8", "surrogateescape")) == "a%FF.py"


def test_the_file_is_ascii_and_written_whole(tmp_path):
    path = tmp_path / "new" / "orch.sarif"
    found = told(RunViolations(), broken("é.py")).groups()
    sarif.write_sarif(found, path, project="demo")
    check(json.loads(path.read_bytes().decode("ascii")))
    assert [entry.name for entry in path.parent.iterdir()] == ["orch.sarif"]
