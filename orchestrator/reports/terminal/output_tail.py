"""The end of a test's output, labelled and bounded, for the terminal and other reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.text import bounded, decode, format_bytes, plural, visible

if TYPE_CHECKING:
    from orchestrator.model.evidence import OutputLog
    from orchestrator.model.results import Attempt

TAIL_LINES = 40
LINE_CHARACTERS = 500
BAR = "    | "
"""Prefix of each line of a test's output, so that no test can imitate a line of orch."""


def tail_lines(log: OutputLog, lines: int = TAIL_LINES, width: int = LINE_CHARACTERS) -> tuple[list[str], bool]:
    """Return the last lines of a stream with control characters visible, and whether earlier output is missing."""
    text = decode(log.tail).removesuffix("\n")
    if not text:
        return [], log.total_bytes > len(log.tail)
    every = text.split("\n")
    earlier = len(every) > lines or log.total_bytes > len(log.tail)
    return [bounded(visible(line.expandtabs(8)), width) for line in every[-lines:]], earlier


def tail_text(log: OutputLog, lines: int = 200) -> str:
    """Return `tail_lines` as one text, for reports that are files."""
    kept, earlier = tail_lines(log, lines)
    return "\n".join(
        [f"[the last {len(kept)} lines of {format_bytes(log.total_bytes)}]", *kept] if earlier else kept
    )


def output_lines(attempt: Attempt, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of both streams with labels, and the path of the whole output."""
    found: list[str] = []
    for name, log in (("stdout", attempt.evidence.stdout), ("stderr", attempt.evidence.stderr)):
        kept, earlier = tail_lines(log, lines)
        if kept or earlier:
            found.append(f"  {name}{_extent(log, len(kept), earlier=earlier)}:")
            found += [BAR + line for line in kept]
    if not found:
        return ["  no output"]
    if attempt.folder is not None:
        found.append(f"  full output: {visible(str(attempt.folder))}")
    return found


def _extent(log: OutputLog, shown: int, *, earlier: bool) -> str:
    if not earlier:
        return ""
    whole = f"the last {plural(shown, 'line')} of {format_bytes(log.total_bytes)}"
    return f" ({whole}, truncated: {format_bytes(log.kept_bytes)} kept)" if log.truncated else f" ({whole})"
