"""Path data for small SVG drawings: sparklines, strokes, stepped areas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.figures import maxima_of_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPARK_WIDTH, SPARK_HEIGHT = 72, 18
_PARTS = 24


def short(value: float, digits: int = 1) -> str:
    """Return a coordinate as short text."""
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def sparkline_path(values: Sequence[float]) -> str:
    """Return a line through the values from the left to the right edge, with zero at the bottom; empty for fewer
    than two.
    """
    if len(values) < 2:
        return ""
    kept = maxima_of_parts(values, _PARTS)
    top = max(kept) or 1.0
    step = SPARK_WIDTH / (len(kept) - 1)
    points = [
        f"{short(at * step)} {short(SPARK_HEIGHT - 1 - value / top * (SPARK_HEIGHT - 3))}"
        for at, value in enumerate(kept)
    ]
    return "M" + "L".join(points)


def strokes_path(strokes: Iterable[tuple[float, float, float]]) -> str:
    """Return one path for horizontal strokes (x, y, length), sorted by y and x. Relative moves keep it short for
    thousands of strokes.
    """
    parts: list[str] = []
    line, current_x = None, 0.0
    for x, y, length in strokes:
        width = max(round(length, 1), 0.6)
        if y != line:
            parts.append(f"M{short(x)} {short(y)}h{short(width)}")
            line, current_x = y, round(x, 1) + width
        else:
            step = round(x - current_x, 1)
            parts.append(f"m{short(step)} 0h{short(width)}")
            current_x += step + width
    return "".join(parts)


def steps_path(steps: Sequence[tuple[float, float]], *, end: float, base: float) -> str:
    """Return an area under (x, y) steps. Each step holds until the x of the next one, the last until `end`."""
    if not steps:
        return ""
    parts = [f"M{short(steps[0][0])} {short(base)}"]
    parts += [f"H{short(x)}V{short(y)}" for x, y in steps]
    return "".join([*parts, f"H{short(end)}V{short(base)}z"])
