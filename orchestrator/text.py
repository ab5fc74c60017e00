"""Formatting of figures with their units, and escaping of untrusted text for terminals and reports.

Names, messages and output come from tests and may contain anything. Every report escapes them with these
functions.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNKNOWN = "?"
"""Text for a figure that was not measured. Such a figure is never shown as 0."""

ELLIPSIS = "…"

NAME_CHARACTERS = 1000
"""Maximum length of a name in a report that is a file. A test can have a name of several megabytes."""
TEXT_CHARACTERS = 20_000
"""Maximum length of a message, or of the end of an output stream, in a report that is a file."""

# C0 except tab and newline, DEL, C1, zero-width and bidirectional controls, line and paragraph separators,
# surrogates (undecodable file names), interlinear marks, noncharacters and tag characters: all of them
# can hide, reorder or forge text on a terminal or in a web page.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)
_UNSAFE_IN_LINE = re.compile(_UNSAFE.pattern[:-1] + "\t\n]")
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    code = ord(char)
    return _SHORT.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def decode(data: bytes) -> str:
    """Decode the output of a test as UTF-8: each undecodable byte becomes U+FFFD, CRLF becomes a newline."""
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


def visible(text: str) -> str:
    r"""Return `text` with control characters as escapes such as `\x1b` and lone surrogates as U+FFFD. Newlines and
    tabs stay.
    """
    return _UNSAFE.sub(_escape, text)


def one_line(text: str, limit: int = 1000) -> str:
    r"""Return `text` on one line: as `visible`, with newlines and tabs as `\n` and `\t`, and shortened in the
    middle to about `limit` characters.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():  # true for nearly all texts
        return text.strip()
    # Shorten first: a name can have 10 MB.
    return _UNSAFE_IN_LINE.sub(_escape, bounded(text.strip(), limit))


def bounded(text: str, limit: int) -> str:
    """Return `text` if it has at most `limit` characters, else its start and end with the number of characters
    that were removed between them.
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}{ELLIPSIS}({len(text) - 2 * half} more){ELLIPSIS}{text[-half:]}"


def cells(text: str) -> int:
    """Return the number of terminal columns of `text`: two for East Asian wide characters, none for combining
    marks.
    """
    if text.isascii():
        return len(text)
    return sum(_char_cells(char) for char in text)


def _char_cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def shorten_middle(text: str, width: int) -> str:
    """Shorten `text` in the middle to at most `width` columns. Two thirds of them are for the end, which has the
    name of the test.
    """
    if cells(text) <= width:
        return text
    if width <= 1:
        return ELLIPSIS[:width]
    head = (width - 1) // 3
    return _take(text, head) + ELLIPSIS + _take(reversed(text), width - 1 - head)[::-1]


def shorten_end(text: str, width: int) -> str:
    """Shorten `text` at the end to at most `width` columns."""
    if cells(text) <= width:
        return text
    return _take(text, width - 1) + ELLIPSIS if width > 1 else ELLIPSIS[: max(width, 0)]


def _take(chars: Iterable[str], width: int) -> str:
    taken: list[str] = []
    for char in chars:
        width -= _char_cells(char)
        if width < 0:
            break
        taken.append(char)
    return "".join(taken)


def format_bytes(count: float | None) -> str:
    """Format a number of bytes with Docker's binary units in at most 5 characters: `61M`, `1.5G`, `512M`; None is
    `?`.
    """
    if count is None:
        return UNKNOWN
    if count < 0:
        return "-" + format_bytes(-count)
    value, unit = _in_binary_unit(count)
    rounded = f"{value:.1f}" if unit and value < 9.95 else f"{value:.0f}"
    return rounded.removesuffix(".0") + (unit or "B")


def _in_binary_unit(count: float) -> tuple[float, str]:
    """Return a number of bytes in the largest unit of which it has at least one, and the letter of the unit, which
    is empty for bytes.
    """
    value, letter = float(count), ""
    for larger in "KMGTPE":
        if value < (1023.5 if letter else 1024):  # above it, rounding would show 1024
            break
        value, letter = value / 1024, larger
    return value, letter


NEARLY_NOTHING = "<1ms"
_NEARLY_NOTHING_SECONDS = 0.0005
"""Durations below this are shorter than the error of the measurement. All of them, 0 included, have one text."""


def format_seconds(seconds: float | None, *, decimals: int = 3) -> str:
    """Format a duration or CPU time: `<1ms`, `43ms`, `0.412s`, `12.4s`, `2m05s`, `1h02m`; None is `?`.

    `decimals`: digits after the point of values from 0.1 to 10 s; 1 for narrow columns (`0.4s`).
    """
    if seconds is None:
        return UNKNOWN
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f}ms" if seconds >= _NEARLY_NOTHING_SECONDS else NEARLY_NOTHING
    if seconds < 9.9995:
        return f"{seconds:.{decimals}f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    return format_clock(seconds)


def format_clock(seconds: float) -> str:
    """Format a duration in whole seconds: `7s`, `2m05s`, `1h02m`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest}s"
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


def format_stopwatch(seconds: float) -> str:
    """Format a test's duration in 8 columns: `  0.412s`, `125.250s`, ` 3600.0s`, `    <1ms`."""
    if seconds < _NEARLY_NOTHING_SECONDS:
        return f"{NEARLY_NOTHING:>8}"
    return f"{seconds:7.3f}s" if seconds < 999.9995 else f"{seconds:7.1f}s"


def format_ratio(ratio: float | None) -> str:
    """Format a share of a limit: `100 %`, `2.5 %`, `2500 %`; None is `?`. A share below the limit is never shown
    as `100 %`.
    """
    if ratio is None:
        return UNKNOWN
    percent = ratio * 100
    if 99.5 <= percent < 100:  # "100 %" means that the limit was reached
        return f"{min(percent, 99.9):.1f} %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"


def format_change(change: float | None) -> str:
    """Format a relative change (0.12 is 12 % more): `+12 %`, `-3 %`, `±0 %`, `x25`; None is empty."""
    if change is None:
        return ""
    percent = round(change * 100)
    if percent >= 1000:
        return f"x{change + 1:.0f}"
    return f"{percent:+d} %" if percent else "±0 %"


def plural(count: int, noun: str, plural_noun: str | None = None) -> str:
    """Return a number with its noun: `1 violation`, `3 violations`, `2 processes`. `plural_noun`: the plural if it
    is not made with an s.
    """
    return f"{count} {noun if count == 1 else plural_noun or noun + 's'}"


MESSAGE_CHARACTERS = 300
"""Length of a message that is shown on one line."""
_SHOWN = 3
_SHOWN_CHARACTERS = 80


def size_text(size_bytes: float, decimals: int = 1) -> str:
    """Format a size for a sentence: `61 MiB`, `1.5 GiB`, `512 B`. From 100 on it has one decimal less."""
    value, unit = _in_binary_unit(size_bytes)
    if not unit:
        return f"{value:.0f} B"
    return f"{_without_zeros(value, decimals if value < 99.95 else decimals - 1)} {unit}iB"


def seconds_text(seconds: float, decimals: int = 2) -> str:
    """Format a duration for a sentence: `<1 ms`, `12 ms`, `1.25 s`, `5 min 3 s`."""
    if seconds < _NEARLY_NOTHING_SECONDS:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{_without_zeros(seconds * 1000, decimals - 2)} ms"
    if seconds < 99.995:
        return f"{_without_zeros(seconds, decimals)} s"
    minutes, rest = divmod(round(seconds, decimals - 2), 60)
    return f"{minutes:.0f} min {_without_zeros(rest, decimals - 2)} s"


def _without_zeros(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def two_sizes(first_bytes: float, second_bytes: float) -> tuple[str, str]:
    """Format two sizes for a sentence that compares them. If they differ, their texts differ: they get up to two
    more decimals, and then exact numbers of bytes.
    """
    for decimals in (1, 2, 3):
        texts = size_text(first_bytes, decimals), size_text(second_bytes, decimals)
        if texts[0] != texts[1] or first_bytes == second_bytes:
            return texts
    return f"{first_bytes:.0f} B", f"{second_bytes:.0f} B"


def two_durations(first_seconds: float, second_seconds: float) -> tuple[str, str]:
    """Format two durations for a sentence that compares them. If they differ by a microsecond or more, their texts
    differ: they get up to two more decimals, and then seconds to the microsecond.
    """
    for decimals in (2, 3, 4):
        texts = seconds_text(first_seconds, decimals), seconds_text(second_seconds, decimals)
        if texts[0] != texts[1] or first_seconds == second_seconds:
            return texts
    return f"{first_seconds:.6f} s", f"{second_seconds:.6f} s"


def listed(items: Sequence[str], total: int | None = None) -> str:
    """Return the first few items on one line, each shortened, with the number of further ones of `total`."""
    shown = [shorten_end(one_line(item), _SHOWN_CHARACTERS) for item in items[:_SHOWN]]
    more = (len(items) if total is None else total) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
