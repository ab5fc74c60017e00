from __future__ import annotations

import durationpy
import pytest
from docker.utils import parse_bytes
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.units import UnitError, format_duration, format_size, parse_duration, parse_size
from orchestrator.errors import UsageError

_NUMBERS = st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,4})?", fullmatch=True)


@given(_NUMBERS, st.sampled_from(["b", "k", "m", "g", "kb", "MB", "Gb", "K", "M", "G", "B"]))
def test_sizes_are_read_as_the_engine_reads_them(number: str, unit: str) -> None:
    assert parse_size(number + unit) == parse_bytes(number + unit)


def test_a_megabyte_is_a_power_of_two() -> None:
    assert parse_size("512m") == 536_870_912
    assert parse_size("1.5g") == 1_610_612_736


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("512", "did you mean `512m`?"),
        ("134217728", "did you mean `134217728b`?"),
        ("-1g", "cannot be negative"),
        ("", "is not a size"),
        ("nan", "is not a size"),
        ("1e3m", "is not a size"),
        ("512 m", "is not a size"),
        ("512mib", "is not a size"),
        ("512m\n", "is not a size"),
        ("٣m", "is not a size"),
        ("999999999999999g", "is too large"),
        ("1t", "is not a size"),
        ("x" * 5000, "…"),
        ("1m\x1b[31m", "\\x1b"),
    ],
)
def test_what_is_no_size_is_refused_with_a_remedy(text: str, part: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_size(text)
    assert part in caught.value.message
    assert "512m" in (caught.value.remedy or "")
    assert len(caught.value.message) < 200
    assert isinstance(caught.value, UsageError)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_formatted_size_reads_back_exactly(size_bytes: int) -> None:
    if size_bytes < 10**15 or size_bytes % 1024 == 0:
        assert parse_size(format_size(size_bytes)) == size_bytes


def test_sizes_are_formatted_in_the_largest_whole_unit() -> None:
    assert [format_size(n) for n in (0, 1, 1536, 1 << 20, 3 << 30)] == ["0b", "1b", "1536b", "1m", "3g"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("100us", 1e-4),
        ("1d", 86400.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("10", "did you mean `10s`?"),
        ("0", "has no unit"),
        ("-2s", "cannot be negative"),
        ("1s, then 2s", "is not a duration"),
        ("1..5s", "is not a duration"),
        ("2s ", "is not a duration"),
        ("2s\n", "is not a duration"),
        ("1:30", "is not a duration"),
        ("1mm", "is not a duration"),
        ("2S", "is not a duration"),
        ("nans", "is not a duration"),
        ("200000d", "above 100 years"),
        ("999999999999999w", "above 100 years"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_remedy(text: str, part: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration(text)
    assert part in caught.value.message
    assert "1m30s" in (caught.value.remedy or "")


def test_the_library_alone_would_accept_garbage() -> None:
    # The reason for our own look first; if this fails, the library became strict and ours may go.
    assert durationpy.from_str("1s, then 2s").total_seconds() == 3


@given(st.integers(min_value=0, max_value=10**14))
def test_a_formatted_duration_reads_back_to_the_microsecond(total_us: int) -> None:
    text = format_duration(total_us / 1e6)
    assert round(parse_duration(text) * 1e6) == pytest.approx(round(total_us / 1e6 * 1e6), abs=1)


def test_durations_are_formatted_as_users_write_them() -> None:
    texts = [format_duration(s) for s in (0, 0.5, 0.0001, 2, 2.5, 90, 3600, 5400)]
    assert texts == ["0s", "500ms", "100us", "2s", "2.5s", "1m30s", "1h", "1h30m"]


@given(st.text(max_size=30))
def test_any_text_gives_a_number_or_a_unit_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            result = parse(text)
        except UnitError as error:
            result = 0 if error.message.isprintable() else -1
        assert result >= 0
