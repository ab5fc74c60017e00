"""Sparklines: a few values as one character each, tallest for the largest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.,-~+*#"
"""The same heights in ASCII, one column each too."""

_ASCII = str.maketrans({**dict(zip(BLOCKS, _PLAIN, strict=True)), "…": "~", "≤": "<", "≥": ">", "±": "~"})


def sparkline(values: Sequence[float]) -> str:
    """One block a value, on a scale from zero to the largest; values that differ little look alike, as they are.

    Empty for fewer than two values: one says nothing of a course.
    """
    if len(values) < 2:
        return ""
    top = max(values)
    if top <= 0:
        return BLOCKS[0] * len(values)
    return "".join(BLOCKS[min(int(max(value, 0) / top * len(BLOCKS)), len(BLOCKS) - 1)] for value in values)


def encodable(text: str, encoding: str | None) -> str:
    """`text` as a stream of that encoding can take it: our own signs in ASCII where it lacks them, columns
    kept, and escapes for the rest.
    """
    name = encoding or "utf-8"
    try:
        text.encode(name)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(name, "backslashreplace").decode(name)
    return text
