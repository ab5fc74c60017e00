from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import text


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "?"),
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1K"),
        (1536 << 20, "1.5G"),
        (61 << 20, "61M"),
        (512 << 20, "512M"),
        (1 << 30, "1G"),
        ((1 << 30) - 1, "1G"),
        (-(3 << 20), "-3M"),
    ],
)
def test_bytes_have_docker_units(count, shown):
    assert text.format_bytes(count) == shown


@given(st.integers(0, 1 << 60))
def test_bytes_are_never_wider_than_five_columns(count):
    assert len(text.format_bytes(count)) <= 5


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "?"),
        (0.0, "<1ms"),
        (0.0001, "<1ms"),
        (0.02, "20ms"),
        (0.3, "0.3s"),
        (1.7, "1.7s"),
        (125.2, "2m05s"),
    ],
)
def test_cpu_seconds(seconds, shown):
    assert text.format_seconds(seconds, decimals=1) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "?"),
        (0.0, "<1ms"),
        (0.0004, "<1ms"),
        (0.004, "4ms"),
        (0.412, "0.412s"),
        (12.4, "12.4s"),
        (125, "2m05s"),
        (3720, "1h02m"),
        (99.99, "1m40s"),
    ],
)
def test_durations(seconds, shown):
    assert text.format_seconds(seconds) == shown


def test_a_stopwatch_is_always_eight_columns():
    assert [len(text.format_stopwatch(seconds)) for seconds in (0.0, 0.412, 999.9999, 86_400.0)] == [8] * 4
    assert text.format_stopwatch(0.0002).strip() == text.format_seconds(0.0002) == "<1ms"


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(None, "?"), (1.0, "100 %"), (0.9999, "99.9 %"), (0.5, "50 %"), (0.012, "1.2 %"), (25, "2500 %")],
)
def test_a_hundred_percent_means_that_the_limit_was_reached(ratio, shown):
    assert text.format_ratio(ratio) == shown


def test_control_characters_become_visible():
    assert text.visible("a\x1b[31mred\x07\r\x9b\u202eevil\n\tok") == "a\\x1b[31mred\\x07\\r\\x9b\\u202eevil\n\tok"


def test_undecodable_bytes_become_the_replacement_character():
    assert text.decode(b"caf\xe9\r\n") == "caf\ufffd\n"
    assert text.visible(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\ufffd"


@given(st.text(st.characters(), max_size=200))
def test_one_line_is_one_line_that_utf8_can_say_and_no_terminal_obeys(data):
    line = text.one_line(data)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1
    assert not any(ord(char) < 32 or 0x7F <= ord(char) <= 0x9F for char in line)


def test_a_name_of_ten_megabytes_is_bounded_and_keeps_its_ends():
    line = text.one_line("a" + "x" * 10_000_000 + "z")
    assert len(line) < 1100
    assert line.startswith("ax")
    assert line.endswith("xz")
    assert "9999002 more" in line


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.integers(0, 40))
def test_shortening_never_exceeds_the_width(data, width):
    assert text.cells(text.shorten_middle(data, width)) <= width
    assert text.cells(text.shorten_end(data, width)) <= width


def test_shortening_keeps_both_ends_of_an_id():
    short = text.shorten_middle("test/unit/deeply/nested/folder/test_index.py::test_big", 30)
    assert short == "test/unit…ndex.py::test_big"[:9] + "…" + "test_index.py::test_big"[-20:]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64.25 * (1 << 20), "64.2 MiB"),
        ((1 << 20) - 1, "1 MiB"),
        (1023.6 * 1024, "1 MiB"),
        (99.96 * (1 << 20), "100 MiB"),
        (134 * (1 << 20) + (1 << 20) // 2, "134 MiB"),
        (4 << 30, "4 GiB"),
        (3 << 40, "3 TiB"),
        (5000 << 40, "4.9 PiB"),
    ],
)
def test_sizes_have_binary_units(size, shown):
    assert text.size_text(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "<1 ms"),
        (0.0123, "12 ms"),
        (0.9999, "1 s"),
        (1.25, "1.25 s"),
        (10.0, "10 s"),
        (99.999, "1 min 40 s"),
        (303.2, "5 min 3 s"),
    ],
)
def test_durations_in_sentences(seconds, shown):
    assert text.seconds_text(seconds) == shown


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (64 << 20, 61 << 20, ("64 MiB", "61 MiB")),
        (60 << 20, 60 << 20, ("60 MiB", "60 MiB")),
        ((60 << 20) + (30 << 10), 60 << 20, ("60.03 MiB", "60 MiB")),
        ((512 << 20) + (200 << 10), 512 << 20, ("512.2 MiB", "512 MiB")),
        ((1 << 30) + 1, 1 << 30, ("1073741825 B", "1073741824 B")),
    ],
)
def test_two_sizes_that_differ_have_different_texts(first, second, shown):
    assert text.two_sizes(first, second) == shown
    assert text.two_sizes(second, first) == shown[::-1]


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (3.0, 2.5, ("3 s", "2.5 s")),
        (2.998, 3.0, ("2.998 s", "3 s")),
        (0.0123, 0.0124, ("12.3 ms", "12.4 ms")),
        (303.2, 303.4, ("5 min 3.2 s", "5 min 3.4 s")),
        (300.0001, 300.0, ("300.000100 s", "300.000000 s")),
        (0.0001, 0.0002, ("0.000100 s", "0.000200 s")),
    ],
)
def test_two_durations_that_differ_have_different_texts(first, second, shown):
    assert text.two_durations(first, second) == shown


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50))
def test_sizes_are_the_same_only_if_their_texts_are(first, second):
    texts = text.two_sizes(first, second)
    assert (texts[0] == texts[1]) is (first == second)
