"""Figures and foreign text made fit to print: units always shown, nothing that could steer a terminal.

Names, messages and output come from tests, so from anyone. Every report passes them through here first.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNKNOWN = "?"
"""Shown for a figure that was not measured; never 0."""

ELLIPSIS = "…"

NAME_CHARACTERS = 1000
"""Most of a name in a report that is a file: a test may give itself one of megabytes."""
TEXT_CHARACTERS = 20_000
"""Most of a message, or of the end of a stream, there."""

# C0 but tab and newline, DEL, C1, zero-width and bidirectional controls, line and paragraph separators,
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
    """Output of a test as text: UTF-8, each undecodable byte as U+FFFD, CRLF as a newline."""
    return data.decode("utf-8", "replace").replace("\r\n", "\n")


def visible(text: str) -> str:
    r"""Control characters as `\x1b`-like escapes, lone surrogates as U+FFFD; newlines and tabs stay."""
    return _UNSAFE.sub(_escape, text)


def one_line(text: str, limit: int = 1000) -> str:
    r"""`visible`, newlines and tabs as `\n` and `\t` too, no longer than about `limit` characters."""
    if len(text) <= limit and text.isascii() and text.isprintable():  # nearly always
        return text.strip()
    # Cut first: a test may give itself a name of 10 MB.
    return _UNSAFE_IN_LINE.sub(_escape, bounded(text.strip(), limit))


def bounded(text: str, limit: int) -> str:
    """`text`, or its head and tail with the number of characters left out between them."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}{ELLIPSIS}({len(text) - 2 * half} more){ELLIPSIS}{text[-half:]}"


def cells(text: str) -> int:
    """Columns that `text` takes on a terminal: East Asian wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_char_cells(char) for char in text)


def _char_cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def shorten_middle(text: str, width: int) -> str:
    """At most `width` columns; the end, where a test's own name is, keeps two thirds of them."""
    if cells(text) <= width:
        return text
    if width <= 1:
        return ELLIPSIS[:width]
    head = (width - 1) // 3
    return _take(text, head) + ELLIPSIS + _take(reversed(text), width - 1 - head)[::-1]


def shorten_end(text: str, width: int) -> str:
    """At most `width` columns, cut at the end."""
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
    """Bytes with Docker's binary units, at most 5 characters: `61M`, `1.5G`, `512M`; None is `?`."""
    if count is None:
        return UNKNOWN
    if count < 0:
        return "-" + format_bytes(-count)
    if count < 1024:
        return f"{count:.0f}B"
    value = float(count)
    for unit in "KMGTPE":  # pragma: no branch - counts end long before exabytes
        value /= 1024
        if value < 1023.5 or unit == "E":
            break
    rounded = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    return rounded.removesuffix(".0") + unit


NEARLY_NOTHING = "<1ms"
_NEARLY_NOTHING_SECONDS = 0.0005
"""What is less is below what a test's figures are good for, and is written in one way, 0 included."""


def format_seconds(seconds: float | None, *, decimals: int = 3) -> str:
    """Seconds for reading, a duration or CPU time: `<1ms`, `43ms`, `0.412s`, `12.4s`, `2m05s`, `1h02m`; None is
    `?`. `decimals` 1 where there is little room: `0.4s`.
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
    """Whole seconds: `7s`, `2m05s`, `1h02m`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest}s"
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


def format_stopwatch(seconds: float) -> str:
    """A test's duration, always 8 columns: `  0.412s`, `125.250s`, ` 3600.0s`, `    <1ms`."""
    if seconds < _NEARLY_NOTHING_SECONDS:
        return f"{NEARLY_NOTHING:>8}"
    return f"{seconds:7.3f}s" if seconds < 999.9995 else f"{seconds:7.1f}s"


def format_ratio(ratio: float | None) -> str:
    """A share of a limit: `100 %`, `12.5 %`, `2500 %`; None is `?`. Only a true 100 % reads so."""
    if ratio is None:
        return UNKNOWN
    percent = ratio * 100
    if 99.5 <= percent < 100:  # "100 %" must mean that the limit was reached
        return f"{min(percent, 99.9):.1f} %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"


def format_change(change: float | None) -> str:
    """A change against before: `+12 %`, `-3 %`, `±0 %`, `x25`; None is empty."""
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


def size_text(size_bytes: float) -> str:
    """`61 MiB`, `1.5 GiB`, `512 B`: at most one decimal, none from 100 on."""
    value, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1023.95:  # what would be shown as 1024 is one of the next unit
            break
        value, unit = value / 1024, larger
    text = f"{value:.0f}" if value >= 100 or unit == "B" else f"{value:.1f}".removesuffix(".0")
    return f"{text} {unit}"


def seconds_text(seconds: float) -> str:
    """`<1 ms`, `12 ms`, `1.25 s`, `5 min 3 s`."""
    if seconds < 0.0005:
        return "<1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.995:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def listed(items: Sequence[str], total: int | None = None) -> str:
    """Return the first few items on one line, each shortened, with the number of further ones of `total`."""
    shown = [shorten_end(one_line(item), _SHOWN_CHARACTERS) for item in items[:_SHOWN]]
    more = (len(items) if total is None else total) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
