"""Convert sizes and durations from text (`512m`, `1g`, `2s`, `1m30s`) to numbers and back.

Sizes follow the engine's own reading (`docker.utils.parse_bytes`: k, m, g are powers of 1024, an ending b
may follow). That function is not called, because importing it costs 0.3 s and pulls in an HTTP client; a unit
test compares the two. Durations are parsed by durationpy after a stricter check, because that library reads
`1s, then 2s` as three seconds.
"""

from __future__ import annotations

import re

from orchestrator.config.parsing.problems import shown
from orchestrator.errors import UsageError

SIZE_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?([bB]|[kKmMgG][bB]?)$"
"""The regular expression of a size, valid in ECMAScript and Python."""
DURATION_PATTERN = r"^([0-9]{1,15}(\.[0-9]{1,9})?(ns|us|µs|μs|ms|s|m|h|d|w))+$"
"""The regular expression of a duration, valid in ECMAScript and Python."""
SIZE_EXAMPLES = "512m, 1g or 64k"
DURATION_EXAMPLES = "2s, 500ms or 1m30s"

_FACTORS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MAX_BYTES = (1 << 63) - 1
_MAX_SECONDS = 100 * 365 * 86400.0
# \Z instead of $: Python's $ also matches before an ending newline.
_SIZE = re.compile(SIZE_PATTERN.removesuffix("$") + r"\Z")
_DURATION = re.compile(DURATION_PATTERN.removesuffix("$") + r"\Z")
_BARE_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?\Z")


class UnitError(UsageError, ValueError):
    """A text that is not a size or not a duration; `remedy` shows valid ones."""


def parse_size(text: str) -> int:
    """Return the bytes of a size such as `512m` (536870912). Raises UnitError, also without a unit."""
    if not _SIZE.match(text):
        raise UnitError(_complaint(text, "size"), remedy=f"write {SIZE_EXAMPLES}")
    digits, unit = text.rstrip("bB"), "b"
    if digits[-1].isalpha():
        digits, unit = digits[:-1], digits[-1].lower()
    size_bytes = int(float(digits) * _FACTORS[unit])
    if size_bytes > _MAX_BYTES:
        raise UnitError(f"the size {shown(text)} is too large", remedy=f"write {SIZE_EXAMPLES}")
    return size_bytes


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `1m30s` (90.0). Raises UnitError, also without a unit."""
    if not _DURATION.match(text):
        raise UnitError(_complaint(text, "duration"), remedy=f"write {DURATION_EXAMPLES}")
    import durationpy

    try:
        seconds = float(durationpy.from_str(text).total_seconds())
    except (ValueError, OverflowError):  # beyond what a timedelta holds
        seconds = float("inf")
    if seconds > _MAX_SECONDS:
        raise UnitError(f"the duration {shown(text)} is above 100 years", remedy=f"write {DURATION_EXAMPLES}")
    return seconds


def format_size(size_bytes: int) -> str:
    """Return the shortest text that `parse_size` reads as exactly `size_bytes`, such as `512m`."""
    for unit in "gmk":
        if size_bytes and size_bytes % _FACTORS[unit] == 0:
            return f"{size_bytes // _FACTORS[unit]}{unit}"
    return f"{size_bytes}b"


def format_duration(seconds: float) -> str:
    """Return text that `parse_duration` reads as `seconds`, to the microsecond: `1m30s`, `500ms`, `2.5s`."""
    total_us = round(seconds * 1_000_000)
    if total_us < 1_000_000:
        if total_us % 1000 == 0:
            return f"{total_us // 1000}ms" if total_us else "0s"
        return f"{total_us}us"
    minutes, rest_us = divmod(total_us, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    whole, fraction_us = divmod(rest_us, 1_000_000)
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "")
    if fraction_us:
        return text + f"{whole}.{fraction_us:06d}".rstrip("0") + "s"
    return text + (f"{whole}s" if whole or not text else "")


def _complaint(text: str, what: str) -> str:
    if text.startswith("-"):
        return f"a {what} cannot be negative: {shown(text)}"
    if _BARE_NUMBER.match(text):
        unit = "s" if what != "size" else "b" if float(text) >= 1 << 20 else "m"
        return f"{shown(text)} has no unit; did you mean `{text}{unit}`?"
    return f"{shown(text)} is not a {what}"
