"""profiles.yaml changed as text: what is not meant stays as it is, to the character."""

from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.parsing.nodes import Items, Scalar, Table
from orchestrator.config.parsing.yaml_tree import read_tree
from orchestrator.config.writing.rule_edits import NewRule, edited
from orchestrator.errors import UsageError
from orchestrator.globs import compile_glob, escape_glob

TEXT = """\
# the project
version: 1
default_profile: standard   # for most

rules:
  # the units
  - {match: "test/unit/**", profile: fast}   # quick ones
  - marker: slow
    profile: 'slow'

suites: []
"""
ONE = NewRule(match="test/a.py", profile="fast")


def change(text: str, profiles: dict[int, str] | None = None, *new: NewRule, comment: str | None = None) -> str:
    return edited(text, file="profiles.yaml", profiles=profiles or {}, new=new, comment=comment)


def changed_lines(before: str, after: str) -> list[str]:
    found = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line for line in found if line[0] in "+-"]


def test_a_profile_is_replaced_where_it_stands() -> None:
    assert changed_lines(TEXT, change(TEXT, {0: "standard", 1: "fast"})) == [
        '-   - {match: "test/unit/**", profile: fast}   # quick ones\n',
        '+   - {match: "test/unit/**", profile: standard}   # quick ones\n',
        "-     profile: 'slow'\n",
        "+     profile: fast\n",
    ]


def test_new_rules_come_first_and_comments_stay_with_theirs() -> None:
    rule = NewRule(match="test/a[1].py", profile="fast", retries=2, exclusive=True, group='the "db"')
    after = change(TEXT, {}, rule, comment="by a test")
    assert changed_lines(TEXT, after) == [
        "+   # by a test\n",
        '+   - {match: "test/a[[]1].py", profile: fast, retries: 2, exclusive: true, group: "the \\"db\\""}\n',
    ]
    assert after.index("by a test") < after.index("# the units") < after.index("test/unit")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '\nrules:\n  - {match: "test/a.py", profile: fast}\n'),
        ("version: 1", 'version: 1\n\nrules:\n  - {match: "test/a.py", profile: fast}\n'),
        ("rules:\n", 'rules:\n  - {match: "test/a.py", profile: fast}\n'),
        ("rules:   # none yet\n# - x\n", 'rules:   # none yet\n  - {match: "test/a.py", profile: fast}\n# - x\n'),
        ("rules: []\nversion: 1\n", 'rules:\n  - {match: "test/a.py", profile: fast}\nversion: 1\n'),
        (
            "rules:\r\n- marker: slow\r\n  profile: slow\r\n",
            'rules:\r\n- {match: "test/a.py", profile: fast}\r\n- marker: slow\r\n  profile: slow\r\n',
        ),
    ],
)
def test_every_shape_of_rules(before: str, after: str) -> None:
    assert change(before, {}, ONE) == after


@pytest.mark.parametrize(
    "text",
    [
        "rules: [{marker: slow, profile: slow}]\n",
        "{version: 1}\n",
        "rules: &r\n  - {marker: slow, profile: slow}\nrules: 1\n",
        "rules:\n  -\n    marker: slow\n    profile: slow\n",
        "a: [\n",
    ],
)
def test_what_cannot_be_changed_safely_is_refused_with_the_rules(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        change(text, {}, ONE)
    assert '- {match: "test/a.py", profile: fast}' in (caught.value.remedy or "")


def test_an_alias_is_not_replaced() -> None:
    with pytest.raises(UsageError, match="cannot change how"):
        change("rules:\n  - {marker: a, profile: &p slow}\n  - {marker: b, profile: *p}\n", {1: "fast"})


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip))
def test_any_name_is_matched_by_its_rule_alone(name: str) -> None:
    tree, problems = read_tree(change(TEXT, {}, NewRule(match=name, profile="fast")), file="f")
    assert problems == []
    assert isinstance(tree, Table)
    rules = tree.entries["rules"]
    assert isinstance(rules, Items)
    assert len(rules.items) == 3
    first = rules.items[0]
    assert isinstance(first, Table)
    glob = first.entries["match"]
    assert isinstance(glob, Scalar)
    assert glob.text == escape_glob(name)
    if "/" not in (name[0], name[-1]) and not name.startswith("./"):
        assert compile_glob(glob.text).fullmatch(name)
        assert not compile_glob(glob.text).fullmatch(name + "x")
