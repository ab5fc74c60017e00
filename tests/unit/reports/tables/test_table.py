from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.reports.tables.render import render
from orchestrator.reports.tables.table import BLOCKS, Column, Figure, Sparkline, Table, encodable, sparkline
from orchestrator.text import cells, format_change


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((), ""),
        ((5.0,), ""),
        ((0.0, 0.0), "▁▁"),
        ((1, 2, 3, 4, 5, 6, 7, 8), "▂▃▄▅▆▇██"),
        ((0, 50, 100), "▁▅█"),
        ((99.0, 100.0), "██"),
    ],
)
def test_a_sparkline_is_scaled_from_zero_to_the_largest(values, shown):
    assert sparkline(values) == shown


@given(st.lists(st.floats(0, 1e18), min_size=2, max_size=50))
def test_a_sparkline_has_a_block_for_each_value_and_is_as_tall_as_its_values(values):
    line = sparkline(values)
    assert len(line) == len(values)
    pairs = sorted(zip(values, (BLOCKS.index(block) for block in line), strict=True))
    assert [height for _, height in pairs] == sorted(height for _, height in pairs)


def test_what_an_encoding_lacks_has_an_ascii_form_of_the_same_width():
    text = f"{BLOCKS} ≤512M test/…/a.py ±0 % é"
    shown = encodable(text, "ascii")
    assert shown.isascii()
    assert shown == "_.,-~+*# <512M test/~/a.py ~0 % \\xe9"
    assert encodable(text, "utf-8") == text == encodable(text, None)
    assert "é" in encodable("▁é", "latin-1")


def test_a_history_is_blocks_for_people_and_numbers_for_programs():
    columns = (Column(key="t", title="test"), Column(key="history", title="history", optional=True))
    table = Table(name="x", columns=columns, rows=(("a", Sparkline((1.0, 2.5))), ("b", Sparkline(()))))
    assert render(table, "table").splitlines()[1] == "a     ▄█"
    assert '"history": [\n        1.0,\n        2.5\n      ]' in render(table, "json")
    assert render(table, "csv").splitlines()[1:] == ["a,1.0 2.5", "b,"]


def test_an_optional_column_with_nothing_in_it_is_not_shown():
    columns = (
        Column(key="t", title="test"),
        Column(key="c", title="trend", optional=True),
        Column(key="n", title="n", optional=True),
    )
    table = Table(name="x", columns=columns, rows=(("a", Figure(None, "change"), Figure(None, "count")),))
    assert render(table, "table").splitlines() == ["test  n", "a     ?"]
    assert render(table, "csv").splitlines() == ["t,c,n", "a,,"]


def test_the_column_worth_least_goes_first():
    columns = (
        Column(key="t", title="test"),
        Column(key="a", title="a" * 10, optional=True, priority=1),
        Column(key="b", title="b" * 10, optional=True, priority=2),
        Column(key="c", title="c" * 10, optional=True, priority=1),
    )
    table = Table(name="x", columns=columns, rows=(("t", "1", "2", "3"),))
    heads = [render(table, "table", columns=width).splitlines()[0].split() for width in (40, 39, 27, 15)]
    assert [[head[0] for head in line] for line in heads] == [
        ["t", "a", "b", "c"],
        ["t", "a", "b"],
        ["t", "b"],
        ["t"],
    ]


@pytest.mark.parametrize(
    ("change", "shown"),
    [(None, ""), (0.0, "±0 %"), (0.004, "±0 %"), (0.12, "+12 %"), (-0.5, "-50 %"), (-1, "-100 %"), (24, "x25")],
)
def test_changes(change, shown):
    assert format_change(change) == shown
    assert cells(format_change(change)) <= 6
