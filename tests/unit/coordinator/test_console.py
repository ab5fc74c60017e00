"""Windows of time as they are typed and told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.coordinator.console import parse_window
from orchestrator.errors import UsageError


def test_a_window_is_told_with_its_length():
    window = parse_window("2026-01-01", "2026-01-08")
    assert window.text == "2026-01-01 00:00 to 2026-01-08 00:00 UTC (7 days)"
    assert window.before == "the 7 days before"


@pytest.mark.parametrize(
    ("since", "length"), [("24h", "24 hours"), ("48h", "2 days"), ("2w", "14 days"), ("90m", "90 minutes")]
)
def test_a_window_reaches_back_from_now(since, length):
    window = parse_window(since, None)
    assert window.before == f"the {length} before"
    assert window.text.endswith(f" to now UTC ({length})")


def test_all_time_has_no_beginning():
    window = parse_window("all", None)
    assert window.since is None
    assert window.text == "all until now"


def test_both_ends_may_be_relative():
    window = parse_window("14d", "7d")
    assert window.until - window.since == pytest.approx(timedelta(days=7), abs=timedelta(seconds=5))


@pytest.mark.parametrize(("since", "until"), [("1d", "7d"), ("2026-01-02", "2026-01-01")])
def test_a_window_that_ends_before_it_begins_is_refused(since, until):
    with pytest.raises(UsageError, match="is empty"):
        parse_window(since, until)


def test_a_window_in_the_future_is_refused():
    with pytest.raises(UsageError, match="is empty"):
        parse_window((datetime.now(UTC) + timedelta(days=1)).date().isoformat() + "T23:59", None)
