"""Figures and lists as they stand in a violation's sentence. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.verdict.outcome import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def percent(ratio: float) -> str:
    """`94 %`."""
    return f"{ratio * 100:.0f} %"


def counted(number: int, word: str, plural: str | None = None) -> str:
    """`1 file`, `3 files`, `2 processes`."""
    return f"{number} {word if number == 1 else plural or word + 's'}"


def listed(items: Sequence[str], total: int | None = None) -> str:
    """The first few, each on one line and bounded, and how many more of `total` there are."""
    lines = [one_line(item) for item in items[:_SHOWN]]
    shown = [line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…" for line in lines]
    more = (len(items) if total is None else total) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
