from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.outcomes import Outcome
from orchestrator.reports.json_encoding import plain, to_json, to_json_line

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([Outcome.OOM, Path("/x"), "\\ud", "\ud800", "\U0001f600", b"\xff", frozenset({2, 1}), ()])
)
KEYS = st.text(max_size=3) | st.integers() | st.none() | st.booleans() | st.sampled_from([Outcome.OOM])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(document=st.dictionaries(st.text(max_size=3) | st.integers(), VALUES, max_size=4))
def test_a_text_says_what_pythons_encoder_makes_of_the_plain_document(document):
    expected = json.loads(json.dumps(plain(document), allow_nan=False))
    for text in (to_json(document), to_json_line(document)):
        assert text.isascii()
        assert json.loads(text) == expected
    assert "\n" not in to_json_line(document)


@pytest.mark.parametrize("odd", ["a", "\u00e9\U0001f600", "\ud800", 1 << 70])
def test_the_layout_does_not_depend_on_the_encoder_that_was_needed(odd):
    document = {"empty": {}, "list": [1, {"b": None}], "odd": odd}
    assert to_json(document) == json.dumps(plain(document), indent=2)
    assert to_json_line(document) == json.dumps(plain(document), separators=(",", ":"))


def test_the_models_values_are_said_as_their_plain_ones(build):
    attempt = build.attempt(folder=Path("/x"), violations=(build.violation(),))
    mapping = MappingProxyType({"at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "nan": float("nan")})
    for value in (attempt, mapping, frozenset({Outcome.OOM}), b"\xff", (1, (2,))):
        assert json.loads(to_json_line([value])) == [plain(value)]


def test_a_type_that_reports_do_not_know_is_an_error():
    with pytest.raises(TypeError, match="no JSON for complex"):
        to_json({"rows": [{"a": 1, "b": 1j}]})


def test_a_type_that_json_does_not_know_is_a_defect():
    with pytest.raises(TypeError, match="object"):
        plain({"x": object()})
