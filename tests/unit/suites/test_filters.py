import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.model.tests import Command, Test, TestId
from orchestrator.suites.filters import parse_filter


def a_test(path="test/unit/test_parse.py", case=None, suite="unit", markers=()):
    command = Command(argv=("true",))
    return Test(id=TestId(path=path, case=case), suite=suite, command=command, markers=frozenset(markers))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parse", True),
        ("nothing", False),
        ("test(parse)", True),
        ("test(~parse)", True),
        ("test(=parse)", False),
        ("test(=test/unit/test_parse.py::test_f[a (b)])", True),
        (r"test(f[a \(b)", True),
        ("test(/unit.*parse/)", True),
        (r"test(/unit\/test_p/)", True),
        ("test(/^parse/)", False),
        ("test(#*parse.py::*)", True),
        ("test(#parse)", False),
        ("suite(unit)", True),
        ("suite(un)", False),
        ("suite(un*)", True),
        ("suite(=un*)", False),
        ("profile(fast)", True),
        ("profile(slow)", False),
        ("marker(db)", True),
        ("marker(/^d/)", True),
        ("marker(slow)", False),
        ("path(test/**)", True),
        ("path(test/*)", False),
        ("path(~unit)", True),
        ("all()", True),
        ("none()", False),
        ("not all()", False),
        ("!none()", True),
        ("not not all()", True),
        ("none() and none() or all()", True),
        ("all() or none() and none()", True),
        ("(all() or none()) and none()", False),
        ("all()&!none()|none()", True),
        ("not none() and all()", True),
        ("notable", False),
        ("  all ()  ".replace(" (", "("), True),
    ],
)
def test_what_an_expression_selects(text, expected):
    test = a_test(case="test_f[a (b)]", markers=("db", "net"))
    assert parse_filter(text).matches(test, "fast") is expected


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("", 1, "found the end"),
        ("all(", 5, "expected `)`"),
        ("test(abc", 6, "never closed"),
        ("(all()", 7, "expected `)`"),
        ("all() all()", 7, "expected `and`"),
        ("all() and", 10, "found the end"),
        ("and all()", 1, "found 'and'"),
        ("foo(x)", 1, "unknown foo"),
        ("test(/a(/)", 7, "regular expression"),
        ("test(/a", 6, "no closing"),
        ("test()", 6, "needs an argument"),
        ("a)", 2, "expected `and`"),
        ("(" * 200 + "a" + ")" * 200, 102, "nested more than"),
    ],
)
def test_a_fault_is_reported_with_its_position(text, column, what):
    with pytest.raises(UsageError) as caught:
        parse_filter(text)
    assert f"column {column}:" in caught.value.message
    assert what in caught.value.message


@given(st.lists(st.sampled_from([*"()!&|=/#~\\ ax", "test(", "and ", "not ", "path(", "all()"])).map("".join))
def test_any_text_is_a_filter_or_a_usage_error(text):
    try:
        parsed = parse_filter(text)
    except UsageError:
        return
    assert parsed.matches(a_test(), "fast") in {True, False}


@given(
    st.recursive(
        st.sampled_from(["all()", "none()"]),
        lambda inner: st.one_of(
            inner.map(lambda text: f"(not {text})"),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: "({} {} {})".format(*parts)),
        ),
    )
)
def test_logic_is_pythons(text):
    expected = eval(text.replace("all()", "True").replace("none()", "False"))
    assert parse_filter(text).matches(a_test(), "fast") is expected
